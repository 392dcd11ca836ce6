package io.konveyor.forklift.vmware

import rego.v1

test_cpu_affinity_set if {
	vm := {"name": "test", "cpuAffinity": [0, 2]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.cpu_affinity.detected"}
}

test_cpu_affinity_empty if {
	vm := {"name": "test", "cpuAffinity": []}
	count(concerns) == 0 with input as vm
}

test_cpu_affinity_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cpuAffinity": null},
		{"name": "test", "cpuAffinity": 4},
	] {
		count(concerns) == 0 with input as vm
	}
}
