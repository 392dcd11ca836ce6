package io.konveyor.forklift.ovirt

import rego.v1

test_storage_error_resume_behaviour_kill if {
	vm := {"name": "test", "storageErrorResumeBehaviour": "kill"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.storage.resume_behavior.unsupported"}
}

test_storage_error_resume_behaviour_auto_resume if {
	every vm in [
		{"name": "test", "storageErrorResumeBehaviour": "auto_resume"},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_storage_error_resume_behaviour_is_named if {
	some concern in concerns with input as {"name": "test", "storageErrorResumeBehaviour": "leave_paused"}
	contains(concern.assessment, "'leave_paused'")
}
