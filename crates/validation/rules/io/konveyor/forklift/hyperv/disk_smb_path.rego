package io.konveyor.forklift.hyperv

import rego.v1

has_smb_path(disk) if {
	is_string(disk.smbPath)
	disk.smbPath != ""
}

concerns contains flag if {
	disk := input.disks[_]
	not has_smb_path(disk)
	flag := {
		"id": "hyperv.disk.smb_path.missing",
		"category": "Warning",
		"label": sprintf("Disk '%v' cannot be mapped to SMB share", [disk.name]),
		"assessment": sprintf("The disk's file '%v' is not below the SMB share that the provider names, so it cannot be read. Move the disk to the share. On a cluster a disk of one node's own is out of reach of the others.", [disk.windowsPath]),
	}
}
