package io.konveyor.forklift.ovirt

import rego.v1

nics_with_custom_properties contains idx if {
	some idx
	count(input.nics[idx].profile.properties) > 0
}

concerns contains flag if {
	count(nics_with_custom_properties) > 0
	flag := {
		"id": "ovirt.nic.custom_properties.detected",
		"category": "Warning",
		"label": "vNIC custom properties detected",
		"assessment": "The vNIC profile of a NIC has custom properties, which hooks on the source's hosts act upon. They are not carried over.",
	}
}
