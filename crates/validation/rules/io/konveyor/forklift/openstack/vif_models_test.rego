package io.konveyor.forklift.openstack

import rego.v1

test_vif_models_other if {
	vm := {"name": "test", "image": {"properties": {"hw_vif_model": "vmxnet3"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.network.vif_model.unsupported"}
}

test_vif_models_not_a_string if {
	vm := {"name": "test", "image": {"properties": {"hw_vif_model": null}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.network.vif_model.unsupported"}
}

test_vif_models_known if {
	every vm in [
		{"name": "test", "image": {"properties": {"hw_vif_model": "e1000"}}},
		{"name": "test", "image": {"properties": {"hw_vif_model": "e1000e"}}},
		{"name": "test", "image": {"properties": {"hw_vif_model": "rtl8139"}}},
		{"name": "test", "image": {"properties": {"hw_vif_model": "virtio"}}},
		{"name": "test", "image": {"properties": {"hw_vif_model": "ne2k_pci"}}},
		{"name": "test", "image": {"properties": {"hw_vif_model": "pcnet"}}},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_vif_models_not_told if {
	every vm in [
		{"name": "test", "image": {"properties": {}}},
		{"name": "test", "image": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
