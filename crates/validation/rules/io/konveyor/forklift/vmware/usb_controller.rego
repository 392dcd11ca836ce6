package io.konveyor.forklift.vmware

import rego.v1

concerns contains flag if {
	has_device("VirtualUSBController")
	flag := {
		"id": "vmware.usb_controller.detected",
		"category": "Warning",
		"label": "USB controller detected",
		"assessment": "The VM has a USB controller. Devices attached to it are not carried over; assign host devices to the migrated VM if they are needed.",
	}
}
