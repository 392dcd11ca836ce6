package io.konveyor.forklift.vmware

import rego.v1

independent_modes := {"independent_persistent", "independent_nonpersistent"}

has_independent_disk if {
	disk := input.disks[_]
	disk.mode in independent_modes
}

concerns contains flag if {
	has_independent_disk
	flag := {
		"id": "vmware.disk_mode.independent",
		"category": "Warning",
		"label": "Independent disk detected",
		"assessment": "Snapshots leave independent disks out, so the usual transfer cannot read them. Use copy offload by the storage array in the plan, or set the disk's mode to dependent in vSphere before the migration.",
	}
}
