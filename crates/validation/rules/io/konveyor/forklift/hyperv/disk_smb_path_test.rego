package io.konveyor.forklift.hyperv

import rego.v1

test_disk_smb_path_absent if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "windowsPath": "C:/a.vhdx"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.disk.smb_path.missing"}
}

test_disk_smb_path_empty if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "windowsPath": "C:/a.vhdx", "smbPath": ""}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.disk.smb_path.missing"}
}

test_disk_smb_path_not_a_string if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "windowsPath": "C:/a.vhdx", "smbPath": null}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.disk.smb_path.missing"}
}

test_disk_smb_path_set if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "windowsPath": "C:/a.vhdx", "smbPath": "share/a.vhdx"}]}
	count(concerns) == 0 with input as vm
}

test_disk_smb_path_no_disks if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "disks": []},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_disk_smb_path_each_disk_is_named if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "disks": [{"name": "a", "windowsPath": "C:/a.vhdx"}, {"name": "b", "windowsPath": "D:/b.vhdx"}]}
	found := {c.label | some c in concerns} with input as vm
	found == {"Disk 'a' cannot be mapped to SMB share", "Disk 'b' cannot be mapped to SMB share"}
}
