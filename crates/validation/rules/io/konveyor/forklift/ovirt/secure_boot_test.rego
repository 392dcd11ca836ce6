package io.konveyor.forklift.ovirt

import rego.v1

test_secure_boot_on if {
	vm := {"name": "test", "bios": "q35_secure_boot"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.secure_boot.detected"}
}

test_secure_boot_off if {
	every vm in [
		{"name": "test", "bios": "q35_ovmf"},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
