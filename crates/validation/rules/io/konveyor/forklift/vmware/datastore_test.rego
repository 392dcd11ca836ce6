package io.konveyor.forklift.vmware

import rego.v1

test_datastore_empty if {
	vm := {"name": "test", "disks": [{"datastore": {"id": "datastore-1"}}, {"datastore": {"id": ""}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.datastore.missing"}
}

test_datastore_set if {
	vm := {"name": "test", "disks": [{"datastore": {"id": "datastore-1"}}]}
	count(concerns) == 0 with input as vm
}

test_datastore_not_told if {
	every vm in [
		{"name": "test", "disks": [{}]},
		{"name": "test", "disks": [{"datastore": null}]},
		{"name": "test", "disks": []},
	] {
		count(concerns) == 0 with input as vm
	}
}
