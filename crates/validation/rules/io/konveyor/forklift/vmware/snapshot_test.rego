package io.konveyor.forklift.vmware

import rego.v1

test_snapshot_present if {
	vm := {"name": "test", "snapshot": {"kind": "VirtualMachineSnapshot", "id": "snapshot-7"}}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.snapshot.detected"}
}

test_snapshot_absent if {
	every vm in [
		{"name": "test", "snapshot": {"kind": "", "id": ""}},
		{"name": "test", "snapshot": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
