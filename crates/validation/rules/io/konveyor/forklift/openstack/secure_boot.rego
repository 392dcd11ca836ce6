package io.konveyor.forklift.openstack

import rego.v1

has_secure_boot if input.image.properties.os_secure_boot == "required"

has_secure_boot if input.flavor.extraSpecs["os:secure_boot"] == "required"

concerns contains flag if {
	has_secure_boot
	flag := {
		"id": "openstack.secure_boot.detected",
		"category": "Warning",
		"label": "UEFI secure boot detected",
		"assessment": "The VM requires UEFI Secure Boot, which the target platform supports in part. Keys of your own in the firmware are not carried over; try the boot before you rely on it.",
	}
}
