package io.konveyor.forklift.vmware

import rego.v1

# vSphere numbers the controllers of a bus from a multiple of a hundred: ide 200, scsi 1000, sata 15000
controller_number(disk) := disk.controllerKey % 100 if is_device_key(disk.controllerKey)

is_device_key(key) if {
	is_number(key)
	floor(key) == key
	abs(key) < 2147483648
}

untracked_disk_slots contains slot if {
	disk := input.disks[_]
	disk.changeTrackingEnabled == false
	is_string(disk.file)
	slot := sprintf("%v%v:%v", [disk.bus, controller_number(disk), disk.unitNumber])
}

concerns contains flag if {
	some slot in untracked_disk_slots
	flag := {
		"id": "vmware.changed_block_tracking.disk.disabled",
		"category": "Warning",
		"label": sprintf("Disk - %s does not have CBT enabled", [slot]),
		"assessment": "Changes of this disk are not tracked. A warm migration needs Changed Block Tracking on each disk: turn it on at the source first, or migrate the VM cold.",
	}
}
