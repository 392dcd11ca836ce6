package io.konveyor.forklift.ovirt

import rego.v1

test_nic_port_mirroring_one_of_two if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"portMirroring": false}}, {"id": "b", "interface": "virtio", "profile": {"portMirroring": true}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.port_mirroring.detected"}
}

test_nic_port_mirroring_none if {
	every vm in [
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {"portMirroring": false}}, {"id": "b", "interface": "virtio", "profile": {"portMirroring": null}}]},
		{"name": "test", "nics": [{"id": "a", "interface": "virtio", "profile": {}}, {"id": "b", "interface": "virtio", "profile": {}}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
