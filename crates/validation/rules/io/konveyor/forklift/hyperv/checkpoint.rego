package io.konveyor.forklift.hyperv

import rego.v1

has_checkpoint if input.hasCheckpoint == true

concerns contains flag if {
	has_checkpoint
	flag := {
		"id": "hyperv.checkpoint.detected",
		"category": "Information",
		"label": "VM checkpoint detected",
		"assessment": "The VM is migrated in its present state. Its checkpoints stay at the source; delete those that are not needed, so that their disks are merged.",
	}
}
