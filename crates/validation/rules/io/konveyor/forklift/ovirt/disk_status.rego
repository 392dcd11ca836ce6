package io.konveyor.forklift.ovirt

import rego.v1

disks_not_readable contains idx if {
	some idx
	regex.match(`illegal|locked`, input.diskAttachments[idx].disk.status)
}

concerns contains flag if {
	count(disks_not_readable) > 0
	flag := {
		"id": "ovirt.disk.illegal_or_locked_status",
		"category": "Critical",
		"label": "VM has an illegal or locked disk status condition",
		"assessment": "A disk of the VM is illegal or locked, and its transfer would most likely fail. Wait for the operation that locks it, or repair the disk, then migrate.",
	}
}
