package io.konveyor.forklift.vmware

import rego.v1

change_tracking_disabled if input.changeTrackingEnabled == false

concerns contains flag if {
	change_tracking_disabled
	flag := {
		"id": "vmware.changed_block_tracking.disabled",
		"category": "Warning",
		"label": "Changed Block Tracking (CBT) not enabled",
		"assessment": "A warm migration copies only what changed since the last copy, and vSphere tells that only with Changed Block Tracking. Turn it on for the VM and its disks before a warm migration; a cold one does not need it.",
	}
}
