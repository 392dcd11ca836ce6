package io.konveyor.forklift.openstack

import rego.v1

invalid_volumes contains idx if {
	some idx
	input.volumes[idx].size <= 0
}

concerns contains flag if {
	some idx in invalid_volumes
	volume := input.volumes[idx]
	flag := {
		"id": "openstack.disk.capacity.invalid",
		"category": "Critical",
		"label": sprintf("Volume '%v' has an invalid size of %v GB", [volume.name, volume.size]),
		"assessment": sprintf("Cinder gives volume '%v' a size of %v GB. A volume needs a size above zero: repair or detach it before the migration.", [volume.name, volume.size]),
	}
}
