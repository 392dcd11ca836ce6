package io.konveyor.forklift.openstack

import rego.v1

test_vm_status_error if {
	vm := {"name": "test", "status": "ERROR"}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.vm.status.invalid"}
}

test_vm_status_lower_case if {
	vm := {"name": "test", "status": "active"}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.vm.status.invalid"}
}

test_vm_status_known if {
	every vm in [
		{"name": "test", "status": "ACTIVE"},
		{"name": "test", "status": "SHUTOFF"},
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
