package io.konveyor.forklift.hyperv

import rego.v1

test_vm_os_debian if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": "Debian GNU/Linux 12"}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.os.unsupported"}
}

test_vm_os_rhel_6 if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": "Red Hat Enterprise Linux 6"}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.os.unsupported"}
}

test_vm_os_supported if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": "Windows Server 2019 Datacenter"},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": "WINDOWS 11 Pro"},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": "Red Hat Enterprise Linux 9.4"},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_vm_os_not_told if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": ""},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "guestOS": null},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
