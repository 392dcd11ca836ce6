package io.konveyor.forklift.openstack

import rego.v1

has_boot_menu_enabled if input.image.properties.hw_boot_menu == "true"

concerns contains flag if {
	has_boot_menu_enabled
	flag := {
		"id": "openstack.bios.boot_menu.enabled",
		"category": "Warning",
		"label": "VM has BIOS boot menu enabled",
		"assessment": "The boot menu of the firmware is not carried over. The migrated VM boots from its boot disk without asking.",
	}
}
