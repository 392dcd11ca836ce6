package io.konveyor.forklift.vmware

import rego.v1

# free space that the conversion needs: https://libguestfs.org/virt-v2v.1.html#disk-space
required_free_mb("/") := 100

required_free_mb("/boot") := 50

required_free_mb(path) := 100 if is_windows_system_drive(path)

required_free_mb(path) := 10 if {
	not path in {"/", "/boot"}
	not is_windows_system_drive(path)
}

is_windows_system_drive(path) if lower(path) in {"c:", `c:\`, "c:/"}

filesystems_without_space contains {"path": path, "free": free, "required_mb": required_mb} if {
	filesystem := input.guestDisks[_]
	path := filesystem.diskPath
	free := filesystem.freeSpace
	required_mb := required_free_mb(path)
	free < required_mb * 1048576
}

# what is not a number is smaller than every number, and has no MB
free_mb(free) := round(free / 1048576) if is_number(free)

concerns contains flag if {
	some filesystem in filesystems_without_space
	flag := {
		"id": "vmware.guestDisks.freespace",
		"category": "Critical",
		"label": sprintf("Insufficient free space for conversion on '%v'", [filesystem.path]),
		"assessment": sprintf("The conversion changes files in the guest and needs at least %v MB of free space on '%v'; there are %v MB. Free some space there before the migration.", [filesystem.required_mb, filesystem.path, free_mb(filesystem.free)]),
	}
}
