package io.konveyor.forklift.ovirt

import rego.v1

has_host_devices if count(input.hostDevices) > 0

concerns contains flag if {
	has_host_devices
	flag := {
		"id": "ovirt.host_devices.mapped",
		"category": "Warning",
		"label": "VM has mapped host devices",
		"assessment": "Devices of the host are mapped into the VM. They are not carried over; like devices can be assigned to the migrated VM.",
	}
}
