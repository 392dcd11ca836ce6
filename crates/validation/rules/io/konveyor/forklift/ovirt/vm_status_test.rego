package io.konveyor.forklift.ovirt

import rego.v1

test_vm_status_paused if {
	vm := {"name": "test", "status": "paused"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.vm.status_invalid"}
}

test_vm_status_empty if {
	vm := {"name": "test", "status": ""}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.vm.status_invalid"}
}

test_vm_status_up_or_down if {
	every vm in [
		{"name": "test", "status": "up"},
		{"name": "test", "status": "down"},
		{"name": "test", "status": "powering_up"},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_vm_status_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "status": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
