package io.konveyor.forklift.openstack

import rego.v1

test_cpu_shares_set if {
	vm := {"name": "test", "flavor": {"extraSpecs": {"quota:cpu_shares": "1"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.cpu.shares.defined"}
}

test_cpu_shares_absent if {
	every vm in [
		{"name": "test", "flavor": {"extraSpecs": {"other": "1"}}},
		{"name": "test", "flavor": {"extraSpecs": {}}},
		{"name": "test", "flavor": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
