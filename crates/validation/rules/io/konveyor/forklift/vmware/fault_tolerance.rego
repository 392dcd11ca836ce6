package io.konveyor.forklift.vmware

import rego.v1

has_fault_tolerance_enabled if input.faultToleranceEnabled

concerns contains flag if {
	has_fault_tolerance_enabled
	flag := {
		"id": "vmware.fault_tolerance.enabled",
		"category": "Information",
		"label": "Fault tolerance",
		"assessment": "The VM has a running shadow on another host. The migrated VM has none: if its host fails it is started again, with an interruption.",
	}
}
