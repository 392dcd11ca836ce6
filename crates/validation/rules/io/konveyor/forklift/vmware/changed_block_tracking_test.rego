package io.konveyor.forklift.vmware

import rego.v1

test_changed_block_tracking_off if {
	vm := {"name": "test", "changeTrackingEnabled": false}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.changed_block_tracking.disabled"}
}

test_changed_block_tracking_on if {
	vm := {"name": "test", "changeTrackingEnabled": true}
	count(concerns) == 0 with input as vm
}

test_changed_block_tracking_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "changeTrackingEnabled": null},
		{"name": "test", "changeTrackingEnabled": "no"},
	] {
		count(concerns) == 0 with input as vm
	}
}
