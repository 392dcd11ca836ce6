package io.konveyor.forklift.ovirt

import rego.v1

nics_with_qos contains idx if {
	some idx
	input.nics[idx].profile.qos != ""
}

concerns contains flag if {
	count(nics_with_qos) > 0
	flag := {
		"id": "ovirt.nic.qos.detected",
		"category": "Warning",
		"label": "NIC with QoS settings detected",
		"assessment": "The vNIC profile of a NIC limits its traffic. The limits are not carried over; set them on the target's network if they are wanted.",
	}
}
