package io.konveyor.forklift.vmware

import rego.v1

has_rdm_disk if {
	disk := input.disks[_]
	disk.rdm
}

concerns contains flag if {
	has_rdm_disk
	flag := {
		"id": "vmware.disk.rdm.detected",
		"category": "Warning",
		"label": "Raw Device Mapped disk detected",
		"assessment": "A disk is a LUN of the storage array, which the usual transfer does not read. Use copy offload by the array in the plan, or take the disk off the VM before the migration and attach the LUN to the migrated VM.",
	}
}
