package io.konveyor.forklift.hyperv

import rego.v1

default valid_input := true

valid_input := false if is_null(input)

default valid_vm := false

valid_vm if is_string(input.name)

default valid_vm_name := false

valid_vm_name if {
	regex.match("^(([A-Za-z0-9][-A-Za-z0-9.]*)?[A-Za-z0-9])?$", input.name)
	count(input.name) < 64
}

concerns contains flag if {
	valid_input
	valid_vm
	not valid_vm_name
	flag := {
		"id": "hyperv.vm.name.invalid",
		"category": "Warning",
		"label": "Invalid VM Name",
		"assessment": "The name is not a valid name for a VM of the target platform (RFC 1123: at most 63 letters, digits, hyphens and periods, beginning and ending with a letter or digit). It is changed automatically during the migration, unless a target name is given in the plan.",
	}
}
