package io.konveyor.forklift.ovirt

import rego.v1

disks_with_scsi_reservation contains idx if {
	some idx
	input.diskAttachments[idx].scsiReservation == true
}

concerns contains flag if {
	count(disks_with_scsi_reservation) > 0
	flag := {
		"id": "ovirt.disk.scsi_reservation.enabled",
		"category": "Warning",
		"label": "Shared disk detected",
		"assessment": "A disk of the VM is used with SCSI reservations, as members of a cluster do with a disk that they share. Neither is carried over: attach a shared LUN to the migrated VMs instead.",
	}
}
