package io.konveyor.forklift.ovirt

import rego.v1

default valid_status_string := false

valid_status_string if is_string(input.status)

default legal_vm_status := false

legal_vm_status if regex.match(`up|down`, input.status)

concerns contains flag if {
	valid_status_string
	not legal_vm_status
	flag := {
		"id": "ovirt.vm.status_invalid",
		"category": "Warning",
		"label": "VM has a status condition that may prevent successful migration",
		"assessment": "The VM is neither up nor down, so something is under way or wrong with it. Wait until it is, or the migration may fail.",
	}
}
