package io.konveyor.forklift.vmware

import rego.v1

test_ip_state_none if {
	vm := {"name": "test", "guestNetworks": []}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.vm_missing_ip.detected"}
}

test_ip_state_some if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]}
	count(concerns) == 0 with input as vm
}

test_ip_state_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "guestNetworks": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
