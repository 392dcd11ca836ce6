package io.konveyor.forklift.ova

import rego.v1

# "exportSource" is the inventory's key; "ovaSource" is accepted for inputs written by hand
export_source := source if {
	source := input.exportSource
} else := input.ovaSource

unsupported_export_source if export_source != "VMware"

concerns contains flag if {
	unsupported_export_source
	flag := {
		"id": "ova.source.unsupported",
		"category": "Warning",
		"label": "Unsupported OVA source",
		"assessment": "The appliance does not look like an export of VMware. It is read as its own exporter's dialect, but the result should be checked.",
	}
}
