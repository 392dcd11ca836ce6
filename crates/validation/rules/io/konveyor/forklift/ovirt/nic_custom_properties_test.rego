package io.konveyor.forklift.ovirt

import rego.v1

test_nic_custom_properties_one_of_two if {
	vm := {"nics": [{"id": "a", "interface": "virtio", "profile": {"properties": []}}, {"id": "b", "interface": "virtio", "profile": {"properties": [{"name": "q", "value": "1"}]}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.custom_properties.detected"}
}

test_nic_custom_properties_none if {
	every vm in [
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"properties": []}}, {"id": "b", "interface": "virtio", "profile": {"properties": null}}]},
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {}}, {"id": "b", "interface": "virtio", "profile": {}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
