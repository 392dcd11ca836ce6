package io.konveyor.forklift.ovirt

import rego.v1

nics_with_pci_passthrough contains idx if {
	some idx
	regex.match(`pci_passthrough`, input.nics[idx].interface)
}

concerns contains flag if {
	count(nics_with_pci_passthrough) > 0
	flag := {
		"id": "ovirt.nic.pci_passthrough.detected",
		"category": "Warning",
		"label": "NIC with host device passthrough detected",
		"assessment": "A NIC is a device of the host. The migrated VM gets an SR-IOV NIC in its place: map it to a network that provides one.",
	}
}
