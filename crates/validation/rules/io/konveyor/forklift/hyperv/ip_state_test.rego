package io.konveyor.forklift.hyperv

import rego.v1

test_ip_state_empty if {
	vm := {"name": "test", "guestNetworks": []}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.vm_missing_ip.detected"}
}

test_ip_state_null if {
	vm := {"name": "test", "guestNetworks": null}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.vm_missing_ip.detected"}
}

test_ip_state_some if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]}
	count(concerns) == 0 with input as vm
}

test_ip_state_not_told if {
	found := {c.id | some c in concerns} with input as {"name": "test"}
	found == {"hyperv.vm_missing_ip.detected"}
}
