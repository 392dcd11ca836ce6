package io.konveyor.forklift.ovirt

import rego.v1

test_shared_disk_on if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "shared": true}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.shared.detected"}
}

test_shared_disk_off if {
	every vm in [
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "shared": false}}]},
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "disk": {"storageType": "image", "status": "ok"}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
