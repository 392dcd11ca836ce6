package io.konveyor.forklift.ovirt

import rego.v1

has_spice_display if input.display == "spice"

concerns contains flag if {
	has_spice_display
	flag := {
		"id": "ovirt.display_type.spice.enabled",
		"category": "Information",
		"label": "VM Display Type",
		"assessment": "The VM's screen is shown by SPICE, which the target platform does not offer. The migrated VM has a VNC console.",
	}
}
