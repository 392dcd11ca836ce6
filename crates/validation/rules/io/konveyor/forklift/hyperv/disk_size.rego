package io.konveyor.forklift.hyperv

import rego.v1

invalid_disks contains idx if {
	some idx
	input.disks[idx].capacity <= 0
}

concerns contains flag if {
	some idx in invalid_disks
	disk := input.disks[idx]
	flag := {
		"id": "hyperv.disk.capacity.invalid",
		"category": "Critical",
		"label": sprintf("Disk '%v' has an invalid capacity of %v bytes", [disk.name, disk.capacity]),
		"assessment": sprintf("Hyper-V gives disk '%v' a capacity of %v bytes. A disk needs a capacity above zero: repair or remove the disk at the source.", [disk.name, disk.capacity]),
	}
}
