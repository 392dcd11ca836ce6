package io.konveyor.forklift.ovirt

import rego.v1

test_host_devices_set if {
	vm := {"hostDevices": [{"name": "pci_0000_00_02_0"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.host_devices.mapped"}
}

test_host_devices_empty if {
	vm := {"name": "test", "hostDevices": []}
	count(concerns) == 0 with input as vm
}

test_host_devices_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "hostDevices": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
