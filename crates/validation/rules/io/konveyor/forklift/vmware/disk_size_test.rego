package io.konveyor.forklift.vmware

import rego.v1

test_disk_size_zero if {
	vm := {"name": "test", "disks": [{"file": "a", "capacity": 0}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk.capacity.invalid"}
}

test_disk_size_negative if {
	vm := {"name": "test", "disks": [{"file": "a", "capacity": -1}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk.capacity.invalid"}
}

test_disk_size_positive if {
	vm := {"name": "test", "disks": [{"file": "a", "capacity": 1}]}
	count(concerns) == 0 with input as vm
}

test_disk_size_not_told if {
	every vm in [
		{"name": "test", "disks": [{"file": "a"}]},
		{"name": "test", "disks": [{"file": "a", "capacity": "0"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_size_each_disk_is_named if {
	vm := {"name": "test", "disks": [{"file": "[ds] a.vmdk", "capacity": 0}, {"file": "[ds] b.vmdk", "capacity": -5}, {"file": "c", "capacity": 5}]}
	found := {c.label | some c in concerns} with input as vm
	found == {"Disk '[ds] a.vmdk' has an invalid capacity of 0 bytes", "Disk '[ds] b.vmdk' has an invalid capacity of -5 bytes"}
}
