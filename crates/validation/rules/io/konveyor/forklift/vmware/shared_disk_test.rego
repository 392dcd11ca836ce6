package io.konveyor.forklift.vmware

import rego.v1

test_shared_disk_one_of_two if {
	vm := {"name": "test", "disks": [{"shared": false}, {"shared": true}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk.shared.detected"}
}

test_shared_disk_none if {
	every vm in [
		{"name": "test", "disks": [{"shared": false}]},
		{"name": "test", "disks": [{"shared": "true"}]},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
