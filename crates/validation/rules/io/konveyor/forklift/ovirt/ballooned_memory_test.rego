package io.konveyor.forklift.ovirt

import rego.v1

test_ballooned_memory_on if {
	vm := {"name": "test", "balloonedMemory": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.memory.ballooning.enabled"}
}

test_ballooned_memory_off if {
	vm := {"name": "test", "balloonedMemory": false}
	count(concerns) == 0 with input as vm
}

test_ballooned_memory_not_told if {
	vm := {"name": "test"}
	count(concerns) == 0 with input as vm
}
