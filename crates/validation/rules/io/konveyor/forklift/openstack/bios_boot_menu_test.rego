package io.konveyor.forklift.openstack

import rego.v1

test_bios_boot_menu_on if {
	vm := {"name": "test", "image": {"properties": {"hw_boot_menu": "true"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.bios.boot_menu.enabled"}
}

test_bios_boot_menu_off if {
	every vm in [
		{"name": "test", "image": {"properties": {"hw_boot_menu": "false"}}},
		{"name": "test", "image": {"properties": {"hw_boot_menu": true}}},
		{"name": "test", "image": {"properties": {}}},
		{"name": "test", "image": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
