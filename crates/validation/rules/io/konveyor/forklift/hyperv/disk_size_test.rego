package io.konveyor.forklift.hyperv

import rego.v1

test_disk_size_zero if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "smbPath": "s", "capacity": 0}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.disk.capacity.invalid"}
}

test_disk_size_negative if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "smbPath": "s", "capacity": -1}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.disk.capacity.invalid"}
}

test_disk_size_positive if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "smbPath": "s", "capacity": 1}]}
	count(concerns) == 0 with input as vm
}

test_disk_size_not_told if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "smbPath": "s"}]}
	count(concerns) == 0 with input as vm
}

test_disk_size_each_disk_is_named if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "smbPath": "s", "capacity": 0}, {"name": "b", "smbPath": "s", "capacity": -3}]}
	found := {c.label | some c in concerns} with input as vm
	found == {"Disk 'a' has an invalid capacity of 0 bytes", "Disk 'b' has an invalid capacity of -3 bytes"}
}
