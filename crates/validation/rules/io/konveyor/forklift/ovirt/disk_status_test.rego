package io.konveyor.forklift.ovirt

import rego.v1

test_disk_status_illegal if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "status": "illegal"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.illegal_or_locked_status"}
}

test_disk_status_locked if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "status": "locked"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.illegal_or_locked_status"}
}

test_disk_status_ok if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "status": "ok"}}]}
	count(concerns) == 0 with input as vm
}

test_disk_status_not_told if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "status": null}}]}
	count(concerns) == 0 with input as vm
}
