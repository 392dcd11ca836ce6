package io.konveyor.forklift.openstack

import rego.v1

has_numa_enabled if has_extra_spec("hw:pci_numa_affinity_policy")

has_numa_enabled if has_extra_spec("hw:numa_nodes")

concerns contains flag if {
	has_numa_enabled
	flag := {
		"id": "openstack.numa_tuning.detected",
		"category": "Warning",
		"label": "NUMA tuning detected",
		"assessment": "The flavor lays the VM out on NUMA nodes. The layout is not carried over: the migrated VM may find its memory farther away than before.",
	}
}
