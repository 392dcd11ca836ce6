package io.konveyor.forklift.vmware

import rego.v1

has_shared_disk if {
	disk := input.disks[_]
	disk.shared == true
}

concerns contains flag if {
	has_shared_disk
	flag := {
		"id": "vmware.disk.shared.detected",
		"category": "Warning",
		"label": "Shared disk detected",
		"assessment": "Another VM uses a disk of this one too. Migrate the VMs that share it together, the disk with one of them only (migrateSharedDisks), and attach it to the others afterwards.",
	}
}
