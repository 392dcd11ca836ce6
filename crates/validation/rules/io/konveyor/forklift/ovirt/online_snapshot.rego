package io.konveyor.forklift.ovirt

import rego.v1

snapshots_with_memory contains idx if {
	some idx
	input.snapshots[idx].persistMemory
}

concerns contains flag if {
	count(snapshots_with_memory) > 0
	flag := {
		"id": "ovirt.snapshot.online_memory.detected",
		"category": "Warning",
		"label": "Online (memory) snapshot detected",
		"assessment": "A snapshot of the VM holds its memory too. Snapshots stay at the source; the VM is migrated in its present state.",
	}
}
