package io.konveyor.forklift.ovirt

import rego.v1

test_ha_on if {
	vm := {"name": "test", "haEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.ha.enabled"}
}

test_ha_off if {
	vm := {"name": "test", "haEnabled": false}
	count(concerns) == 0 with input as vm
}

test_ha_not_told if {
	vm := {"name": "test"}
	count(concerns) == 0 with input as vm
}
