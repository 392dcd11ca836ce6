package io.konveyor.forklift.ovirt

import rego.v1

test_tpm_windows_2022 if {
	vm := {"name": "test", "osType": "windows_2022"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.tpm.required_by_os"}
}

test_tpm_windows_11 if {
	vm := {"name": "test", "osType": "windows_11"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.tpm.required_by_os"}
}

test_tpm_others if {
	every vm in [
		{"name": "test", "osType": "windows_2019x64"},
		{"name": "test", "osType": "rhel_9x64"},
		{"name": "test", "osType": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
