package io.konveyor.forklift.ovirt

import rego.v1

has_custom_cpu_model if count(input.customCpuModel) > 0

concerns contains flag if {
	has_custom_cpu_model
	flag := {
		"id": "ovirt.cpu.custom_model.detected",
		"category": "Warning",
		"label": "Custom CPU Model detected",
		"assessment": "The VM asks for a CPU model of its own instead of its cluster's. The migrated VM asks for the same one: see that nodes of the target cluster offer it.",
	}
}
