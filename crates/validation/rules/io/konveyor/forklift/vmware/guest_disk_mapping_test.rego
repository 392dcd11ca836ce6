package io.konveyor.forklift.vmware

import rego.v1

test_guest_disk_mapping_zero if {
	vm := {"name": "test", "guestId": "windows2019srv_64Guest", "guestDisks": [{"key": 0, "diskPath": "D:"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.key.not_found"}
}

test_guest_disk_mapping_absent if {
	vm := {"name": "test", "guestId": "windows11_64Guest", "guestDisks": [{"diskPath": "D:"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.key.not_found"}
}

test_guest_disk_mapping_known if {
	vm := {"name": "test", "guestId": "windows2019srv_64Guest", "guestDisks": [{"key": 2000, "diskPath": "D:"}]}
	count(concerns) == 0 with input as vm
}

test_guest_disk_mapping_not_windows if {
	vm := {"name": "test", "guestId": "rhel9_64Guest", "guestDisks": [{"key": 0, "diskPath": "/"}]}
	count(concerns) == 0 with input as vm
}
