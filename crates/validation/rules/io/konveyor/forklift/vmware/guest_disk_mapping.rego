package io.konveyor.forklift.vmware

import rego.v1

is_windows_guest if contains(lower(input.guestId), "windows")

invalid_guest_disk_mappings contains idx if {
	is_windows_guest
	some idx
	object.get(input.guestDisks[idx], "key", 0) == 0
}

concerns contains flag if {
	some idx in invalid_guest_disk_mappings
	disk := input.guestDisks[idx]
	flag := {
		"id": "vmware.guestDisks.key.not_found",
		"category": "Information",
		"label": sprintf("Missing disk key mapping for '%v'", [disk.diskPath]),
		"assessment": "The guest tools do not tell which virtual disk holds this drive. A PVC name template that uses winDriveLetter has no letter for it.",
	}
}
