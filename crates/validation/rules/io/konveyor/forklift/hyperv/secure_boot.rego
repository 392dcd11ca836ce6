package io.konveyor.forklift.hyperv

import rego.v1

has_secure_boot if input.secureBoot == true

concerns contains flag if {
	has_secure_boot
	flag := {
		"id": "hyperv.secure_boot.detected",
		"category": "Information",
		"label": "Secure Boot enabled",
		"assessment": "The VM boots with Secure Boot, and so does the migrated one where the target platform allows it. Keys of your own in the firmware are not carried over.",
	}
}
