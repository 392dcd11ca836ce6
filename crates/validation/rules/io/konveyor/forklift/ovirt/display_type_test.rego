package io.konveyor.forklift.ovirt

import rego.v1

test_display_type_spice if {
	vm := {"name": "test", "display": "spice"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.display_type.spice.enabled"}
}

test_display_type_others if {
	every vm in [
		{"name": "test", "display": "vnc"},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
