package io.konveyor.forklift.vmware

import rego.v1

test_rdm_disk_one_of_two if {
	vm := {"name": "test", "disks": [{"rdm": false}, {"rdm": true}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk.rdm.detected"}
}

test_rdm_disk_none if {
	every vm in [
		{"name": "test", "disks": [{"rdm": false}]},
		{"name": "test", "disks": [{}]},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
