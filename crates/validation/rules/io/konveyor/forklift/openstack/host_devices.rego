package io.konveyor.forklift.openstack

import rego.v1

has_host_devices if has_extra_spec("pci_passthrough:alias")

concerns contains flag if {
	has_host_devices
	flag := {
		"id": "openstack.host_devices.mapped",
		"category": "Warning",
		"label": "VM has mapped host devices",
		"assessment": "The flavor passes devices of the host through to the VM. They are not carried over; like devices can be assigned to the migrated VM.",
	}
}
