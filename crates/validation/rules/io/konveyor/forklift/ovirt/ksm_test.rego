package io.konveyor.forklift.ovirt

import rego.v1

test_ksm_on if {
	vm := {"name": "test", "cluster": {"ksmEnabled": true}}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.cluster.ksm_enabled"}
}

test_ksm_off if {
	vm := {"name": "test", "cluster": {"ksmEnabled": false}}
	count(concerns) == 0 with input as vm
}

test_ksm_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cluster": {}},
	] {
		count(concerns) == 0 with input as vm
	}
}
