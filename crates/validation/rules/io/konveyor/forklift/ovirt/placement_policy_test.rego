package io.konveyor.forklift.ovirt

import rego.v1

test_placement_policy_migratable if {
	vm := {"name": "test", "placementPolicyAffinity": "migratable"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.placement_policy.affinity_set"}
}

test_placement_policy_among_others if {
	vm := {"name": "test", "placementPolicyAffinity": "a,migratable b"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.placement_policy.affinity_set"}
}

test_placement_policy_beside_other_letters if {
	vm := {"name": "test", "placementPolicyAffinity": "émigratable"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.placement_policy.affinity_set"}
}

test_placement_policy_others if {
	every vm in [
		{"name": "test", "placementPolicyAffinity": "user_migratable"},
		{"name": "test", "placementPolicyAffinity": "pinned"},
		{"name": "test", "placementPolicyAffinity": "migratable2"},
		{"name": "test", "placementPolicyAffinity": ""},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_placement_policy_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "placementPolicyAffinity": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
