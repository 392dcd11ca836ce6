package io.konveyor.forklift.openstack

import rego.v1

test_numa_tune_set if {
	vm := {"name": "test", "flavor": {"extraSpecs": {"hw:numa_nodes": "1"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.numa_tuning.detected"}
}

test_numa_tune_other_spec if {
	vm := {"name": "test", "flavor": {"extraSpecs": {"hw:pci_numa_affinity_policy": "1"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.numa_tuning.detected"}
}

test_numa_tune_absent if {
	every vm in [
		{"name": "test", "flavor": {"extraSpecs": {"other": "1"}}},
		{"name": "test", "flavor": {"extraSpecs": {}}},
		{"name": "test", "flavor": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
