package io.konveyor.forklift.openstack

import rego.v1

test_host_devices_set if {
	vm := {"name": "test", "flavor": {"extraSpecs": {"pci_passthrough:alias": "1"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.host_devices.mapped"}
}

test_host_devices_absent if {
	every vm in [
		{"name": "test", "flavor": {"extraSpecs": {"other": "1"}}},
		{"name": "test", "flavor": {"extraSpecs": {}}},
		{"name": "test", "flavor": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
