package io.konveyor.forklift.ovirt

import rego.v1

test_vm_os_rhel_6 if {
	vm := {"name": "test", "osType": "rhel_6"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.os.unsupported"}
}

test_vm_os_rhel_6x64 if {
	vm := {"name": "test", "osType": "rhel_6x64"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.os.unsupported"}
}

test_vm_os_others if {
	every vm in [
		{"name": "test", "osType": "rhel_7x64"},
		{"name": "test", "osType": "windows_10"},
		{"name": "test", "osType": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
