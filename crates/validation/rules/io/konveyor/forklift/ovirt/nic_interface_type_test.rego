package io.konveyor.forklift.ovirt

import rego.v1

test_nic_interface_type_other if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "spapr_vlan"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.interface_type.unsupported"}
}

test_nic_interface_type_absent if {
	vm := {"name": "test", "nics": [{"id": "a"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.interface_type.unsupported"}
}

test_nic_interface_type_known if {
	every vm in [
		{"name": "test", "nics": [{"id": "a", "interface": "e1000"}]},
		{"name": "test", "nics": [{"id": "a", "interface": "rtl8139"}]},
		{"name": "test", "nics": [{"id": "a", "interface": "virtio"}]},
		{"name": "test", "nics": [{"id": "a", "interface": "rtl8139_virtio"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_nic_interface_type_no_nics if {
	every vm in [
		{"name": "test"},
		{"name": "test", "nics": []},
	] {
		count(concerns) == 0 with input as vm
	}
}
