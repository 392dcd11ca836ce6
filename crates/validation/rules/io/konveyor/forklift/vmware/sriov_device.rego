package io.konveyor.forklift.vmware

import rego.v1

concerns contains flag if {
	has_device("VirtualSriovEthernetCard")
	flag := {
		"id": "vmware.device.sriov.detected",
		"category": "Warning",
		"label": "SR-IOV passthrough adapter configuration detected",
		"assessment": "A network adapter of the VM is a virtual function of the host's card. It is not carried over; attach an SR-IOV network to the migrated VM if it is wanted.",
	}
}
