package io.konveyor.forklift.hyperv

import rego.v1

test_disk_count_no_disks if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "disks": []},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "disks": null},
	] {
		count(concerns) == 0 with input as vm
	}
}

vm_with_disks(n) := {
	"name": "test",
	"guestNetworks": [{"ip": "10.0.0.5"}],
	"disks": [{"id": i, "smbPath": "share"} | some i in numbers.range(1, n)],
}

test_disk_count_at_limit if {
	count(concerns) == 0 with input as vm_with_disks(165)
}

test_disk_count_above_limit if {
	found := {[c.id, c.label] | some c in concerns} with input as vm_with_disks(166)
	found == {["hyperv.disk.count.exceeds.limit", "VM has 166 disks, which exceeds the limit of 165"]}
}
