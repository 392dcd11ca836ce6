package io.konveyor.forklift.vmware

import rego.v1

test_filesystem_size_root if {
	vm := {"name": "test", "guestDisks": [{"key": 2000, "diskPath": "/", "freeSpace": 104857599}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.freespace"}
}

test_filesystem_size_boot if {
	vm := {"name": "test", "guestDisks": [{"key": 2000, "diskPath": "/boot", "freeSpace": 52428799}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.freespace"}
}

test_filesystem_size_windows if {
	vm := {"name": "test", "guestDisks": [{"key": 2000, "diskPath": "C:\\", "freeSpace": 104857599}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.freespace"}
}

test_filesystem_size_windows_other_spellings if {
	vm := {"name": "test", "guestDisks": [{"key": 2000, "diskPath": "c:", "freeSpace": 0}, {"key": 2001, "diskPath": "C:/", "freeSpace": 0}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.freespace"}
}

test_filesystem_size_other if {
	vm := {"name": "test", "guestDisks": [{"key": 2000, "diskPath": "/home", "freeSpace": 10485759}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.guestDisks.freespace"}
}

test_filesystem_size_enough if {
	every vm in [
		{"name": "test", "guestDisks": [{"key": 2000, "diskPath": "/", "freeSpace": 104857600}]},
		{"name": "test", "guestDisks": [{"key": 2000, "diskPath": "/boot", "freeSpace": 52428800}]},
		{"name": "test", "guestDisks": [{"key": 2000, "diskPath": "C:\\", "freeSpace": 104857600}]},
		{"name": "test", "guestDisks": [{"key": 2000, "diskPath": "/home", "freeSpace": 10485760}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_filesystem_size_not_told if {
	every vm in [
		{"name": "test", "guestDisks": []},
		{"name": "test", "guestDisks": [{"diskPath": "/"}]},
		{"name": "test", "guestDisks": [{"freeSpace": 0}]},
		{"name": "test", "guestDisks": [{"diskPath": "/", "freeSpace": null}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_filesystem_size_tells_what_is_there_and_what_is_needed if {
	vm := {"name": "test", "guestDisks": [{"diskPath": "/boot", "freeSpace": 20971520}]}
	some concern in concerns with input as vm
	concern.label == "Insufficient free space for conversion on '/boot'"
	contains(concern.assessment, "at least 50 MB")
	contains(concern.assessment, "there are 20 MB")
}
