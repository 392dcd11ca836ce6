package io.konveyor.forklift.ovirt

import rego.v1

concerns contains flag if {
	known := count(disks_of_storage_type("image")) + count(disks_of_storage_type("lun"))
	known != count(disk_attachments)
	flag := {
		"id": "ovirt.disk.storage_type.unsupported",
		"category": "Critical",
		"label": "Unsupported disk storage type detected",
		"assessment": "A disk is neither an image nor a LUN, so its data cannot be read by the migration. Copy it to an image at the source, or remove it from the VM.",
	}
}
