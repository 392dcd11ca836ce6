package io.konveyor.forklift.openstack

import rego.v1

volumes_with_known_status contains idx if {
	some idx
	regex.match(`available|in-use`, input.volumes[idx].status)
}

concerns contains flag if {
	count(volumes_with_known_status) != count(input.volumes)
	flag := {
		"id": "openstack.disk.status.unsupported",
		"category": "Critical",
		"label": "VM has one or more disks with an unsupported status",
		"assessment": "A volume of the VM is neither 'available' nor 'in-use', and its transfer would most likely fail. Wait until it is, or repair it in Cinder.",
	}
}
