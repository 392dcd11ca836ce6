package io.konveyor.forklift.vmware

import rego.v1

test_numa_affinity_set if {
	vm := {"name": "test", "numaNodeAffinity": [0, 2]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.numa_affinity.detected"}
}

test_numa_affinity_empty if {
	vm := {"name": "test", "numaNodeAffinity": []}
	count(concerns) == 0 with input as vm
}

test_numa_affinity_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "numaNodeAffinity": null},
		{"name": "test", "numaNodeAffinity": 4},
	] {
		count(concerns) == 0 with input as vm
	}
}
