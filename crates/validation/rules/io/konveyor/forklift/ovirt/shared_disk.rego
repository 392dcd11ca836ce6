package io.konveyor.forklift.ovirt

import rego.v1

shared_disks contains idx if {
	some idx
	input.diskAttachments[idx].disk.shared == true
}

concerns contains flag if {
	count(shared_disks) > 0
	flag := {
		"id": "ovirt.disk.shared.detected",
		"category": "Warning",
		"label": "Shared disk detected",
		"assessment": "Another VM may use a disk of this one too. It is migrated as this VM's own: detach it first, or keep the others from writing to it.",
	}
}
