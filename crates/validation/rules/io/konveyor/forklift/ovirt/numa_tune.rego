package io.konveyor.forklift.ovirt

import rego.v1

has_numa_affinity if count(input.numaNodeAffinity) > 0

concerns contains flag if {
	has_numa_affinity
	flag := {
		"id": "ovirt.numa.tuning.detected",
		"category": "Warning",
		"label": "NUMA tuning detected",
		"assessment": "The VM is bound to NUMA nodes of its host. The binding is not carried over: the migrated VM may find its memory farther away than before.",
	}
}
