package io.konveyor.forklift.ovirt

import rego.v1

has_custom_properties if count(input.properties) > 0

concerns contains flag if {
	has_custom_properties
	flag := {
		"id": "ovirt.vm.custom_properties.detected",
		"category": "Warning",
		"label": "VM custom properties detected",
		"assessment": "The VM has custom properties, which hooks on the source's hosts act upon. They are not carried over: see what they do and whether the migrated VM needs it.",
	}
}
