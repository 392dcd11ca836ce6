package io.konveyor.forklift.ovirt

import rego.v1

test_disk_storage_type_cinder if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image"}}, {"id": "b", "interface": "virtio", "disk": {"storageType": "cinder"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.storage_type.unsupported"}
}

test_disk_storage_type_absent if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.storage_type.unsupported"}
}

test_disk_storage_type_known if {
	every vm in [
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image"}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "lun"}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_storage_type_no_disks if {
	every vm in [
		{"name": "test"},
		{"name": "test", "diskAttachments": []},
	] {
		count(concerns) == 0 with input as vm
	}
}
