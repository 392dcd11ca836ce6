package io.konveyor.forklift.openstack

import rego.v1

test_disk_status_error if {
	vm := {"name": "test", "volumes": [{"status": "in-use"}, {"status": "error"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.status.unsupported"}
}

test_disk_status_absent if {
	vm := {"name": "test", "volumes": [{}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.status.unsupported"}
}

test_disk_status_known if {
	vm := {"name": "test", "volumes": [{"status": "in-use"}, {"status": "available"}]}
	count(concerns) == 0 with input as vm
}

test_disk_status_no_volumes if {
	every vm in [
		{"name": "test"},
		{"name": "test", "volumes": []},
		{"name": "test", "volumes": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
