package io.konveyor.forklift.ovirt

import rego.v1

test_cpu_policy_resize if {
	vm := {"name": "test", "cpuPinningPolicy": "resize_and_pin_numa"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.cpu.pinning_policy.unsupported"}
}

test_cpu_policy_isolate if {
	vm := {"name": "test", "cpuPinningPolicy": "isolate_threads"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.cpu.pinning_policy.unsupported"}
}

test_cpu_policy_others if {
	every vm in [
		{"name": "test", "cpuPinningPolicy": "none"},
		{"name": "test", "cpuPinningPolicy": "manual"},
		{"name": "test", "cpuPinningPolicy": "dedicated"},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_cpu_policy_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cpuPinningPolicy": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
