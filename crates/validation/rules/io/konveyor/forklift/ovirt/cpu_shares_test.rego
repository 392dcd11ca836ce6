package io.konveyor.forklift.ovirt

import rego.v1

test_cpu_shares_set if {
	vm := {"name": "test", "cpuShares": 1}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.cpu.shares.defined"}
}

test_cpu_shares_zero if {
	vm := {"name": "test", "cpuShares": 0}
	count(concerns) == 0 with input as vm
}

test_cpu_shares_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cpuShares": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
