package io.konveyor.forklift.ovirt

import rego.v1

has_secure_boot if input.bios == "q35_secure_boot"

concerns contains flag if {
	has_secure_boot
	flag := {
		"id": "ovirt.secure_boot.detected",
		"category": "Warning",
		"label": "UEFI secure boot detected",
		"assessment": "The VM boots by UEFI with Secure Boot, which the target platform supports in part. Keys of your own in the firmware are not carried over; try the boot before you rely on it.",
	}
}
