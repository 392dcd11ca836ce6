package io.konveyor.forklift.ovirt

import rego.v1

test_bios_boot_menu_on if {
	vm := {"name": "test", "bootMenuEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.bios.boot_menu.enabled"}
}

test_bios_boot_menu_off if {
	vm := {"name": "test", "bootMenuEnabled": false}
	count(concerns) == 0 with input as vm
}

test_bios_boot_menu_not_told if {
	vm := {"name": "test"}
	count(concerns) == 0 with input as vm
}
