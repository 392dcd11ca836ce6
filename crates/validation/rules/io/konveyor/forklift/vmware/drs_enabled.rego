package io.konveyor.forklift.vmware

import rego.v1

has_drs_enabled if input.host.cluster.drsEnabled

concerns contains flag if {
	has_drs_enabled
	flag := {
		"id": "vmware.drs.enabled",
		"category": "Information",
		"label": "VM running in a DRS-enabled cluster",
		"assessment": "The cluster balances its VMs by the Distributed Resource Scheduler. Its rules and settings are not carried over; the target platform schedules the VM by its own.",
	}
}
