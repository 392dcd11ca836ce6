package io.konveyor.forklift.vmware

import rego.v1

has_scsi_disk_with_uuid if {
	input.diskEnableUuid == true
	disk := input.disks[_]
	disk.bus == "scsi"
}

concerns contains flag if {
	has_scsi_disk_with_uuid
	flag := {
		"id": "vmware.disk_serial.truncated",
		"category": "Information",
		"label": "Disk serial numbers may be truncated",
		"assessment": "disk.EnableUUID shows the guest a serial number for each SCSI disk, and software in it may find disks by that number. The migrated disks carry a shortened one: check what refers to disks by serial number.",
	}
}
