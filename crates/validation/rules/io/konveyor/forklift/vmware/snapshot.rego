package io.konveyor.forklift.vmware

import rego.v1

has_snapshot if input.snapshot.kind == "VirtualMachineSnapshot"

concerns contains flag if {
	has_snapshot
	flag := {
		"id": "vmware.snapshot.detected",
		"category": "Information",
		"label": "VM snapshot detected",
		"assessment": "The VM is migrated in its present state. Its snapshots stay at the source; consolidate or delete those that are not needed.",
	}
}
