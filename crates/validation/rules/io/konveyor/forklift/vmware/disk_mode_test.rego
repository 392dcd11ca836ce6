package io.konveyor.forklift.vmware

import rego.v1

test_disk_mode_persistent if {
	vm := {"name": "test", "disks": [{"mode": "independent_persistent"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk_mode.independent"}
}

test_disk_mode_nonpersistent if {
	vm := {"name": "test", "disks": [{"mode": "persistent"}, {"mode": "independent_nonpersistent"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk_mode.independent"}
}

test_disk_mode_dependent if {
	every vm in [
		{"name": "test", "disks": [{"mode": "persistent"}]},
		{"name": "test", "disks": [{}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
