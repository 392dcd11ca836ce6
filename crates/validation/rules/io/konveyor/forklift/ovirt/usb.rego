package io.konveyor.forklift.ovirt

import rego.v1

has_usb_enabled if input.usbEnabled

concerns contains flag if {
	has_usb_enabled
	flag := {
		"id": "ovirt.usb.enabled",
		"category": "Warning",
		"label": "USB support enabled",
		"assessment": "USB devices can be attached to the VM at the source. Neither the setting nor the devices are carried over.",
	}
}
