package io.konveyor.forklift.vmware

import rego.v1

test_fault_tolerance_on if {
	vm := {"name": "test", "faultToleranceEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.fault_tolerance.enabled"}
}

test_fault_tolerance_off if {
	every vm in [
		{"name": "test"},
		{"name": "test", "faultToleranceEnabled": false},
	] {
		count(concerns) == 0 with input as vm
	}
}
