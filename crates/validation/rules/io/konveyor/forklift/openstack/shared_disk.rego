package io.konveyor.forklift.openstack

import rego.v1

shared_disks contains idx if {
	some idx
	count(input.volumes[idx].attachments) > 1
}

concerns contains flag if {
	count(shared_disks) > 0
	flag := {
		"id": "openstack.disk.shared.detected",
		"category": "Warning",
		"label": "Shared disk detected",
		"assessment": "A volume is attached to more than one VM. It is migrated as this VM's own: detach it first, or keep the others from writing to it.",
	}
}
