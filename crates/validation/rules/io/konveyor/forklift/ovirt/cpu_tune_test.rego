package io.konveyor.forklift.ovirt

import rego.v1

test_cpu_tune_set if {
	vm := {"name": "test", "cpuAffinity": [{"set": 0, "cpu": 1}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.cpu.tuning.detected"}
}

test_cpu_tune_empty if {
	vm := {"name": "test", "cpuAffinity": []}
	count(concerns) == 0 with input as vm
}

test_cpu_tune_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cpuAffinity": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
