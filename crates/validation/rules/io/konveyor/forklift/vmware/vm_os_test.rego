package io.konveyor.forklift.vmware

import rego.v1

test_vm_os_unsupported_name if {
	vm := {"name": "test", "guestName": "Debian GNU/Linux 12"}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.os.unsupported"}
}

test_vm_os_tools_are_asked_first if {
	vm := {"name": "test", "guestName": "Microsoft Windows 11", "guestNameFromVmwareTools": "Debian GNU/Linux 12"}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.os.unsupported"}
}

test_vm_os_tools_tell_nothing if {
	vm := {"name": "test", "guestName": "FreeBSD", "guestNameFromVmwareTools": ""}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.os.unsupported"}
}

test_vm_os_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "guestId": null, "guestName": null},
		{"name": "test", "guestNameFromVmwareTools": ""},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_vm_os_tools_tell_a_supported_one if {
	vm := {"name": "test", "guestId": "otherGuest", "guestName": "FreeBSD", "guestNameFromVmwareTools": "Microsoft Windows 10 (64-bit)"}
	count(concerns) == 0 with input as vm
}

test_vm_os_supported_ids if {
	every id in [
		"rhel7Guest", "rhel7_64Guest", "rhel8_64Guest", "rhel9_64Guest", "rhel10_64Guest", "windows11_64Guest",
		"windows2016srv_64Guest", "windows2019srv_64Guest", "windows2022srvNext_64Guest", "windows2025srv_64Guest",
	] {
		count(concerns) == 0 with input as {"name": "test", "guestId": id}
	}
}

test_vm_os_supported_names if {
	every name in [
		"Red Hat Enterprise Linux 7 (64-bit)", "Red Hat Enterprise Linux 10.1 (Coughlan)",
		"Microsoft Windows 11 (64-bit)", "Microsoft Windows Server 2022 (64-bit)",
	] {
		count(concerns) == 0 with input as {"name": "test", "guestId": "otherGuest64", "guestName": name}
		count(concerns) == 0 with input as {"name": "test", "guestNameFromVmwareTools": name, "guestName": "Other"}
	}
}

test_vm_os_unsupported_ids if {
	every id in ["debian12_64Guest", "rhel6_64Guest", "windows9Server64Guest", "centos9_64Guest", ""] {
		found := {c.id | some c in concerns} with input as {"name": "test", "guestId": id}
		found == {"vmware.os.unsupported"}
	}
}
