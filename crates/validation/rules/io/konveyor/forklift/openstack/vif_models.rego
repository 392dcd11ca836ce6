package io.konveyor.forklift.openstack

import rego.v1

has_unsupported_vif_model if {
	model := input.image.properties.hw_vif_model
	not regex.match(`e1000|e1000e|rtl8139|virtio|ne2k_pci|pcnet`, model)
}

concerns contains flag if {
	has_unsupported_vif_model
	flag := {
		"id": "openstack.network.vif_model.unsupported",
		"category": "Warning",
		"label": "Unsupported VIF model detected",
		"assessment": "The image asks for a NIC of a type other than e1000, e1000e, rtl8139, ne2k_pci, pcnet or VirtIO. It becomes a VirtIO NIC: the guest needs the driver, and may name it differently.",
	}
}
