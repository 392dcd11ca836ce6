package io.konveyor.forklift.ovirt

import rego.v1

test_disk_interface_type_ide if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image"}}, {"id": "b", "interface": "ide", "disk": {"storageType": "image"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.interface_type.unsupported"}
}

test_disk_interface_type_absent if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "disk": {"storageType": "image"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.interface_type.unsupported"}
}

test_disk_interface_type_known if {
	every vm in [
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "sata", "disk": {"storageType": "image"}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image"}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio_scsi", "disk": {"storageType": "image"}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_interface_type_no_disks if {
	every vm in [
		{"name": "test"},
		{"name": "test", "diskAttachments": []},
	] {
		count(concerns) == 0 with input as vm
	}
}
