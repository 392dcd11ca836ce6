package io.konveyor.forklift.openstack

import rego.v1

test_shared_disk_two_attachments if {
	vm := {"name": "test", "volumes": [{"status": "in-use", "attachments": [{"ID": "a"}, {"ID": "b"}]}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.shared.detected"}
}

test_shared_disk_one_at_most if {
	every vm in [
		{"name": "test", "volumes": [{"status": "in-use", "attachments": [{"ID": "a"}]}]},
		{"name": "test", "volumes": [{"status": "in-use", "attachments": []}]},
		{"name": "test", "volumes": [{"status": "in-use"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
