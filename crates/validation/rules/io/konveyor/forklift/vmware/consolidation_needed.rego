package io.konveyor.forklift.vmware

import rego.v1

consolidation_needed if input.consolidationNeeded == true

concerns contains flag if {
	consolidation_needed
	flag := {
		"id": "vmware.consolidation_needed",
		"category": "Warning",
		"label": "Snapshot consolidation required",
		"assessment": "Deleted snapshots have left delta disks behind. Each round of a warm migration may take longer until the disks are consolidated in vSphere.",
	}
}
