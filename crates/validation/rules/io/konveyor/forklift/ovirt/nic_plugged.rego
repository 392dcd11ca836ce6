package io.konveyor.forklift.ovirt

import rego.v1

unplugged_nics contains idx if {
	some idx
	input.nics[idx].plugged == false
}

concerns contains flag if {
	count(unplugged_nics) > 0
	flag := {
		"id": "ovirt.nic.unplugged.detected",
		"category": "Warning",
		"label": "Unplugged NIC detected",
		"assessment": "A NIC is unplugged at the source. The migrated VM would have it plugged in: remove the NIC before the migration if it is not to be connected.",
	}
}
