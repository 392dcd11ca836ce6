package io.konveyor.forklift.ovirt

import rego.v1

disks_with_known_interface contains idx if {
	some idx
	regex.match(`sata|virtio_scsi|virtio`, input.diskAttachments[idx].interface)
}

concerns contains flag if {
	count(disks_with_known_interface) != count(disk_attachments)
	flag := {
		"id": "ovirt.disk.interface_type.unsupported",
		"category": "Warning",
		"label": "Unsupported disk interface type detected",
		"assessment": "A disk is attached by an interface other than SATA, VirtIO SCSI or VirtIO. It becomes a VirtIO disk: the guest needs the driver, and may see it under another name.",
	}
}
