package io.konveyor.forklift.ovirt

import rego.v1

has_cpu_shares if input.cpuShares > 0

concerns contains flag if {
	has_cpu_shares
	flag := {
		"id": "ovirt.cpu.shares.defined",
		"category": "Warning",
		"label": "VM has CPU Shares Defined",
		"assessment": "The VM's weight among others that want the same processor is not carried over. CPU requests of the migrated VM serve the same end.",
	}
}
