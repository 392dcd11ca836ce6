package io.konveyor.forklift.openstack

import rego.v1

has_watchdog_enabled if has_extra_spec("hw:watchdog_action")

has_watchdog_enabled if input.image.properties.hw_watchdog_action

concerns contains flag if {
	has_watchdog_enabled
	flag := {
		"id": "openstack.watchdog.detected",
		"category": "Warning",
		"label": "Watchdog detected",
		"assessment": "A watchdog device acts when the guest hangs. It is not carried over; add a watchdog or a liveness probe to the migrated VM.",
	}
}
