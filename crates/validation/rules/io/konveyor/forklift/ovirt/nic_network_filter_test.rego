package io.konveyor.forklift.ovirt

import rego.v1

test_nic_network_filter_one_of_two if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"networkFilter": ""}}, {"id": "b", "interface": "virtio", "profile": {"networkFilter": "7f2c"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.network_filter.detected"}
}

test_nic_network_filter_none if {
	every vm in [
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"networkFilter": ""}}, {"id": "b", "interface": "virtio", "profile": {"networkFilter": ""}}]},
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {}}, {"id": "b", "interface": "virtio", "profile": {}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
