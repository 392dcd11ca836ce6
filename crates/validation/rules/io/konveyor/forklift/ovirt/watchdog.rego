package io.konveyor.forklift.ovirt

import rego.v1

has_watchdog_enabled if count(input.watchDogs) > 0

concerns contains flag if {
	has_watchdog_enabled
	flag := {
		"id": "ovirt.watchdog.enabled",
		"category": "Warning",
		"label": "Watchdog detected",
		"assessment": "A watchdog device restarts the VM when the guest hangs. It is not carried over; add a watchdog or a liveness probe to the migrated VM.",
	}
}
