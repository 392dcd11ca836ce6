package io.konveyor.forklift.vmware

import rego.v1

test_dpm_enabled_on if {
	vm := {"name": "test", "host": {"cluster": {"dpmEnabled": true}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.dpm.enabled"}
}

test_dpm_enabled_off if {
	vm := {"name": "test", "host": {"cluster": {"dpmEnabled": false}}}
	count(concerns) == 0 with input as vm
}

test_dpm_enabled_not_told if {
	every vm in [
		{"name": "test", "host": {"cluster": null}},
		{"name": "test", "host": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
