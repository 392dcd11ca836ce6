package io.konveyor.forklift.openstack

import rego.v1

test_watchdog_flavor if {
	vm := {"name": "test", "flavor": {"extraSpecs": {"hw:watchdog_action": "reset"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.watchdog.detected"}
}

test_watchdog_image if {
	vm := {"name": "test", "image": {"properties": {"hw_watchdog_action": "poweroff"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.watchdog.detected"}
}

test_watchdog_absent if {
	every vm in [
		{"name": "test", "flavor": {"extraSpecs": {}}},
		{"name": "test", "image": {"properties": {}}},
		{"name": "test", "image": {"properties": {"hw_watchdog_action": false}}},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
