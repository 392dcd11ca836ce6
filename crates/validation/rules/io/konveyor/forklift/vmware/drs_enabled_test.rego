package io.konveyor.forklift.vmware

import rego.v1

test_drs_enabled_on if {
	vm := {"name": "test", "host": {"cluster": {"drsEnabled": true}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.drs.enabled"}
}

test_drs_enabled_off if {
	vm := {"name": "test", "host": {"cluster": {"drsEnabled": false}}}
	count(concerns) == 0 with input as vm
}

test_drs_enabled_not_told if {
	every vm in [
		{"name": "test", "host": {"cluster": null}},
		{"name": "test", "host": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
