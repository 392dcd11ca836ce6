package io.konveyor.forklift.ovirt

import rego.v1

has_ballooned_memory if input.balloonedMemory

concerns contains flag if {
	has_ballooned_memory
	flag := {
		"id": "ovirt.memory.ballooning.enabled",
		"category": "Information",
		"label": "VM has memory ballooning enabled",
		"assessment": "The host may take unused memory back from the VM. That is not carried over: the migrated VM keeps the memory that it is given.",
	}
}
