package io.konveyor.forklift.vmware

import rego.v1

invalid_disks contains idx if {
	some idx
	input.disks[idx].capacity <= 0
}

concerns contains flag if {
	some idx in invalid_disks
	disk := input.disks[idx]
	flag := {
		"id": "vmware.disk.capacity.invalid",
		"category": "Critical",
		"label": sprintf("Disk '%v' has an invalid capacity of %v bytes", [disk.file, disk.capacity]),
		"assessment": sprintf("vSphere gives disk '%v' a capacity of %v bytes. A disk needs a capacity above zero: repair or remove the disk at the source.", [disk.file, disk.capacity]),
	}
}
