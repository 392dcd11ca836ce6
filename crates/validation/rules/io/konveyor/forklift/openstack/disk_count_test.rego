package io.konveyor.forklift.openstack

import rego.v1

test_disk_count_no_disks if {
	every vm in [
		{"name": "test"},
		{"name": "test", "volumes": []},
		{"name": "test", "volumes": null},
	] {
		count(concerns) == 0 with input as vm
	}
}

vm_with_disks(n) := {
	"name": "test",
	"volumes": [{"id": i, "status": "in-use"} | some i in numbers.range(1, n)],
}

test_disk_count_at_limit if {
	count(concerns) == 0 with input as vm_with_disks(165)
}

test_disk_count_above_limit if {
	found := {[c.id, c.label] | some c in concerns} with input as vm_with_disks(166)
	found == {["openstack.disk.count.exceeds.limit", "VM has 166 disks, which exceeds the limit of 165"]}
}
