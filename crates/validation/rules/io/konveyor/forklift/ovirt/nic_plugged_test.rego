package io.konveyor.forklift.ovirt

import rego.v1

test_nic_plugged_unplugged if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio", "plugged": false}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.nic.unplugged.detected"}
}

test_nic_plugged_plugged if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio", "plugged": true}]}
	count(concerns) == 0 with input as vm
}

test_nic_plugged_not_told if {
	vm := {"name": "test", "nics": [{"id": "a", "interface": "virtio"}]}
	count(concerns) == 0 with input as vm
}
