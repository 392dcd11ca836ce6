package io.konveyor.forklift.ovirt

import rego.v1

test_custom_properties_set if {
	vm := {"properties": [{"name": "hook", "value": "1"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.vm.custom_properties.detected"}
}

test_custom_properties_empty if {
	vm := {"name": "test", "properties": []}
	count(concerns) == 0 with input as vm
}

test_custom_properties_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "properties": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
