package io.konveyor.forklift.ovirt

import rego.v1

test_online_snapshot_one_of_two if {
	vm := {"name": "test", "snapshots": [{"persistMemory": false}, {"persistMemory": true}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.snapshot.online_memory.detected"}
}

test_online_snapshot_none if {
	every vm in [
		{"name": "test", "snapshots": [{"persistMemory": false}]},
		{"name": "test", "snapshots": [{}]},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
