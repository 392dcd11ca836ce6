package io.konveyor.forklift.ovirt

import rego.v1

test_watchdog_set if {
	vm := {"name": "test", "watchDogs": [{"model": "i6300esb", "action": "reset"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.watchdog.enabled"}
}

test_watchdog_empty if {
	vm := {"name": "test", "watchDogs": []}
	count(concerns) == 0 with input as vm
}

test_watchdog_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "watchDogs": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
