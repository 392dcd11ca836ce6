package io.konveyor.forklift.ova

import rego.v1

# the inventory writes a disk's own keys with capitals; the other spelling is
# accepted so that inputs written by hand behave the same
disk_capacity(disk) := disk.Capacity

disk_capacity(disk) := disk.capacity if not "Capacity" in object.keys(disk)

disk_path(disk) := object.get(disk, "FilePath", object.get(disk, "filePath", "unknown"))

invalid_disks contains idx if {
	some idx
	disk_capacity(input.disks[idx]) <= 0
}

concerns contains flag if {
	some idx in invalid_disks
	disk := input.disks[idx]
	flag := {
		"id": "ova.disk.capacity.invalid",
		"category": "Critical",
		"label": sprintf("Disk '%v' has an invalid capacity of %v bytes", [disk_path(disk), disk_capacity(disk)]),
		"assessment": sprintf("The descriptor gives disk '%v' a capacity of %v bytes. A disk needs a capacity above zero: repair the descriptor or export the appliance again.", [disk_path(disk), disk_capacity(disk)]),
	}
}
