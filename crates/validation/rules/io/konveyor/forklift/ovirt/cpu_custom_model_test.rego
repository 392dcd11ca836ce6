package io.konveyor.forklift.ovirt

import rego.v1

test_cpu_custom_model_set if {
	vm := {"name": "test", "customCpuModel": "Haswell"}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.cpu.custom_model.detected"}
}

test_cpu_custom_model_empty if {
	vm := {"name": "test", "customCpuModel": ""}
	count(concerns) == 0 with input as vm
}

test_cpu_custom_model_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "customCpuModel": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
