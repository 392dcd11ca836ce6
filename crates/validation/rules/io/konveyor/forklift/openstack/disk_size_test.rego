package io.konveyor.forklift.openstack

import rego.v1

test_disk_size_zero if {
	vm := {"volumes": [{"name": "a", "status": "in-use", "size": 0}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.capacity.invalid"}
}

test_disk_size_negative if {
	vm := {"volumes": [{"name": "a", "status": "in-use", "size": -1}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.disk.capacity.invalid"}
}

test_disk_size_positive if {
	vm := {"volumes": [{"name": "a", "status": "in-use", "size": 1}]}
	count(concerns) == 0 with input as vm
}

test_disk_size_not_told if {
	every vm in [
		{"volumes": [{"name": "a", "status": "in-use"}]},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_size_each_volume_is_named if {
	vm := {"volumes": [{"name": "root", "status": "in-use", "size": 0}, {"name": "data", "status": "in-use", "size": -2}]}
	found := {c.label | some c in concerns} with input as vm
	found == {"Volume 'root' has an invalid size of 0 GB", "Volume 'data' has an invalid size of -2 GB"}
}
