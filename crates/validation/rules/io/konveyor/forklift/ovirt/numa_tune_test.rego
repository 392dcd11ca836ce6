package io.konveyor.forklift.ovirt

import rego.v1

test_numa_tune_set if {
	vm := {"name": "test", "numaNodeAffinity": ["0"]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.numa.tuning.detected"}
}

test_numa_tune_empty if {
	vm := {"name": "test", "numaNodeAffinity": []}
	count(concerns) == 0 with input as vm
}

test_numa_tune_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "numaNodeAffinity": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
