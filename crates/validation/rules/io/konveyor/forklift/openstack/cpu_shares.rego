package io.konveyor.forklift.openstack

import rego.v1

has_cpu_shares if has_extra_spec("quota:cpu_shares")

concerns contains flag if {
	has_cpu_shares
	flag := {
		"id": "openstack.cpu.shares.defined",
		"category": "Warning",
		"label": "VM has CPU Shares Defined",
		"assessment": "The flavor gives the VM a weight among others that want the same processor. It is not carried over; CPU requests of the migrated VM serve the same end.",
	}
}
