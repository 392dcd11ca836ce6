package io.konveyor.forklift.vmware

import rego.v1

has_cpu_affinity if count(input.cpuAffinity) > 0

concerns contains flag if {
	has_cpu_affinity
	flag := {
		"id": "vmware.cpu_affinity.detected",
		"category": "Warning",
		"label": "CPU affinity detected",
		"assessment": "The VM is bound to processors of its host. That is not carried over; set CPU placement on the migrated VM if it is still wanted.",
	}
}
