package io.konveyor.forklift.ovirt

import rego.v1

has_illegal_images if input.hasIllegalImages

concerns contains flag if {
	has_illegal_images
	flag := {
		"id": "ovirt.disk.illegal_images.detected",
		"category": "Critical",
		"label": "Illegal disk images detected",
		"assessment": "A snapshot of the VM has a disk image in the state ILLEGAL, and the transfer would most likely fail. Delete or repair the snapshot at the source first.",
	}
}
