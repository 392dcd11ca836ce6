package io.konveyor.forklift.ovirt

import rego.v1

test_disk_size_image if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "provisionedSize": 0}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.capacity.invalid"}
}

test_disk_size_image_negative if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "provisionedSize": -1}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.capacity.invalid"}
}

test_disk_size_lun if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "lun", "provisionedSize": 0, "lunStorage": {"logicalUnits": {"logicalUnit": [{"size": 1073741824}, {"size": 0}]}}}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.capacity.invalid"}
}

test_disk_size_lun_other_spelling if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "lun", "lun": {"logicalUnits": {"logicalUnit": [{"size": 1073741824}, {"size": 0}]}}}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.capacity.invalid"}
}

test_disk_size_once_for_all if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "provisionedSize": 0}}, {"id": "b", "interface": "virtio", "disk": {"storageType": "image", "provisionedSize": 0}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.capacity.invalid"}
}

test_disk_size_positive if {
	every vm in [
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "provisionedSize": 1}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "lun", "provisionedSize": 0, "lunStorage": {"logicalUnits": {"logicalUnit": [{"size": 1073741824}, {"size": 1}]}}}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "lun", "lun": {"logicalUnits": {"logicalUnit": [{"size": 1073741824}, {"size": 1}]}}}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_size_not_told if {
	every vm in [
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "shared": false}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "lun", "lunStorage": {"logicalUnits": {"logicalUnit": null}}}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
