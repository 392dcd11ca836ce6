package io.konveyor.forklift.vmware

import rego.v1

test_host_affinity_listed if {
	vm := {"name": "test", "id": "vm-2", "host": {"cluster": {"hostAffinityVms": [{"id": "vm-1"}, {"id": "vm-2"}]}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.host_affinity.detected"}
}

test_host_affinity_others if {
	vm := {"name": "test", "id": "vm-3", "host": {"cluster": {"hostAffinityVms": [{"id": "vm-1"}]}}}
	count(concerns) == 0 with input as vm
}

test_host_affinity_not_told if {
	every vm in [
		{"name": "test", "id": "vm-1"},
		{"name": "test", "id": "vm-1", "host": {"cluster": {"hostAffinityVms": null}}},
	] {
		count(concerns) == 0 with input as vm
	}
}
