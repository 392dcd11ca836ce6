package io.konveyor.forklift.vmware

import rego.v1

has_numa_node_affinity if count(input.numaNodeAffinity) > 0

concerns contains flag if {
	has_numa_node_affinity
	flag := {
		"id": "vmware.numa_affinity.detected",
		"category": "Warning",
		"label": "NUMA node affinity detected",
		"assessment": "The VM is bound to NUMA nodes of its host. That is not carried over: the migrated VM may find its memory farther away than before.",
	}
}
