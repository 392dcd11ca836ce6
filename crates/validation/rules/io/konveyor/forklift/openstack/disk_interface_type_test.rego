package io.konveyor.forklift.openstack

import rego.v1

test_disk_interface_type_other if {
	vm := {"name": "test", "image": {"properties": {"hw_disk_bus": "ide"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.unsupported_interface"}
}

test_disk_interface_type_not_a_string if {
	vm := {"name": "test", "image": {"properties": {"hw_disk_bus": null}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.unsupported_interface"}
}

test_disk_interface_type_known if {
	every vm in [
		{"name": "test", "image": {"properties": {"hw_disk_bus": "sata"}}},
		{"name": "test", "image": {"properties": {"hw_disk_bus": "scsi"}}},
		{"name": "test", "image": {"properties": {"hw_disk_bus": "virtio"}}},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_interface_type_not_told if {
	every vm in [
		{"name": "test", "image": {"properties": {}}},
		{"name": "test", "image": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
