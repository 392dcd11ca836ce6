package io.konveyor.forklift.ova

import rego.v1

vm_with_disks(n) := {
	"name": "test",
	"exportSource": "VMware",
	"disks": [{"FilePath": sprintf("disk%d.vmdk", [i]), "Capacity": 1073741824} | some i in numbers.range(1, n)],
}

test_disk_count_few if {
	count(concerns) == 0 with input as vm_with_disks(2)
}

test_disk_count_at_limit if {
	count(concerns) == 0 with input as vm_with_disks(165)
}

test_disk_count_above_limit if {
	found := {c.label | some c in concerns} with input as vm_with_disks(166)
	found == {"VM has 166 disks, which exceeds the limit of 165"}
}
