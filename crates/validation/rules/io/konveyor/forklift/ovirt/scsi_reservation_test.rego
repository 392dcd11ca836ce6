package io.konveyor.forklift.ovirt

import rego.v1

test_scsi_reservation_on if {
	vm := {"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "scsiReservation": true, "disk": {"storageType": "lun"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.scsi_reservation.enabled"}
}

test_scsi_reservation_off if {
	every vm in [
		{"name": "test", "diskAttachments": [{"id": "a", "interface": "virtio", "scsiReservation": false, "disk": {"storageType": "lun"}}]},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
