package io.konveyor.forklift.ovirt

import rego.v1

test_nic_pci_passthrough_passthrough if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "pci_passthrough"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.pci_passthrough.detected", "ovirt.nic.interface_type.unsupported"}
}

test_nic_pci_passthrough_virtio if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio"}]}
	count(concerns) == 0 with input as vm
}
