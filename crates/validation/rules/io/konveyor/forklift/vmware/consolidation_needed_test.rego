package io.konveyor.forklift.vmware

import rego.v1

test_consolidation_needed_yes if {
	vm := {"name": "test", "consolidationNeeded": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.consolidation_needed"}
}

test_consolidation_needed_no if {
	vm := {"name": "test", "consolidationNeeded": false}
	count(concerns) == 0 with input as vm
}

test_consolidation_needed_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "consolidationNeeded": "true"},
	] {
		count(concerns) == 0 with input as vm
	}
}
