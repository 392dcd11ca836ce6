package io.konveyor.forklift.ovirt

import rego.v1

has_ha_enabled if input.haEnabled

concerns contains flag if {
	has_ha_enabled
	flag := {
		"id": "ovirt.ha.enabled",
		"category": "Warning",
		"label": "VM configured as HA",
		"assessment": "The source starts the VM again when its host fails. This setting is not carried over: choose a run strategy for the migrated VM, and see that failed nodes are fenced.",
	}
}
