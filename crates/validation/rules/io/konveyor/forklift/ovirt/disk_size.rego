package io.konveyor.forklift.ovirt

import rego.v1

# "lunStorage" is the inventory's key; "lun" is accepted for inputs written by hand
lun_storage(disk) := disk.lunStorage if disk.lunStorage

else := disk.lun

is_lun(disk) if disk.storageType == "lun"

has_invalid_size(disk) if {
	is_lun(disk)
	unit := lun_storage(disk).logicalUnits.logicalUnit[_]
	unit.size <= 0
}

has_invalid_size(disk) if {
	not is_lun(disk)
	disk.provisionedSize <= 0
}

has_invalid_disk if {
	attachment := input.diskAttachments[_]
	has_invalid_size(attachment.disk)
}

concerns contains flag if {
	has_invalid_disk
	flag := {
		"id": "ovirt.disk.capacity.invalid",
		"category": "Critical",
		"label": "Disk has an invalid capacity",
		"assessment": "The engine gives a disk of the VM, or a LUN behind it, no capacity above zero. Repair or remove the disk at the source before the migration.",
	}
}
