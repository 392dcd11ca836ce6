package io.konveyor.forklift.vmware

import rego.v1

concerns contains flag if {
	has_device("VirtualPCIPassthrough")
	flag := {
		"id": "vmware.passthrough_device.detected",
		"category": "Critical",
		"label": "Passthrough device detected",
		"assessment": "A device of the host is passed through to the VM, which ties it to that host. Remove the device from the VM before the migration; a like one can be assigned on the target platform afterwards.",
	}
}
