package io.konveyor.forklift.ova

import rego.v1

vm_with_capacity(capacity) := {
	"name": "test",
	"exportSource": "VMware",
	"disks": [{"FilePath": "/ova/disk1.vmdk", "Capacity": capacity}],
}

test_disk_capacity_zero if {
	found := {[c.category, c.label] | some c in concerns} with input as vm_with_capacity(0)
	found == {["Critical", "Disk '/ova/disk1.vmdk' has an invalid capacity of 0 bytes"]}
}

test_disk_capacity_negative if {
	count(concerns) == 1 with input as vm_with_capacity(-1024)
}

test_disk_capacity_positive if {
	count(concerns) == 0 with input as vm_with_capacity(17179869184)
}

test_disk_capacity_other_spelling if {
	vm := {"name": "test", "exportSource": "VMware", "disks": [{"filePath": "d", "capacity": 0}]}
	count(concerns) == 1 with input as vm
}
