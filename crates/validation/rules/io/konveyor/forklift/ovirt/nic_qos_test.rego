package io.konveyor.forklift.ovirt

import rego.v1

test_nic_qos_one_of_two if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"qos": ""}}, {"id": "b", "interface": "virtio", "profile": {"qos": "7f2c"}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.qos.detected"}
}

test_nic_qos_none if {
	every vm in [
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"qos": ""}}, {"id": "b", "interface": "virtio", "profile": {"qos": ""}}]},
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {}}, {"id": "b", "interface": "virtio", "profile": {}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
