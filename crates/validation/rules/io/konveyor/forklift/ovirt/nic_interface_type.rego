package io.konveyor.forklift.ovirt

import rego.v1

nics_with_known_interface contains idx if {
	some idx
	regex.match(`e1000|rtl8139|virtio`, input.nics[idx].interface)
}

nics_with_id contains idx if {
	some idx
	input.nics[idx].id
}

concerns contains flag if {
	count(nics_with_known_interface) != count(nics_with_id)
	flag := {
		"id": "ovirt.nic.interface_type.unsupported",
		"category": "Warning",
		"label": "Unsupported NIC interface type detected",
		"assessment": "A NIC is of a type other than e1000, rtl8139 or VirtIO. It becomes a VirtIO NIC: the guest needs the driver, and may name it differently.",
	}
}
