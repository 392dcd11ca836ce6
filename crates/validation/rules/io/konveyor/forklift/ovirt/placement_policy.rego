package io.konveyor.forklift.ovirt

import rego.v1

# the word alone, not as a part of another; spelled out, as engines differ in what ends a word
has_live_migration_policy if regex.match(
	`(^|[^0-9A-Za-z_])migratable([^0-9A-Za-z_]|$)`,
	input.placementPolicyAffinity,
)

concerns contains flag if {
	has_live_migration_policy
	flag := {
		"id": "ovirt.placement_policy.affinity_set",
		"category": "Warning",
		"label": "Placement policy affinity",
		"assessment": "The VM may be moved to another host while it runs. The migrated VM can be only where live migration is on and its storage is accessible from all nodes (ReadWriteMany).",
	}
}
