package io.konveyor.forklift.ovirt

import rego.v1

has_cpu_affinity if count(input.cpuAffinity) > 0

concerns contains flag if {
	has_cpu_affinity
	flag := {
		"id": "ovirt.cpu.tuning.detected",
		"category": "Warning",
		"label": "CPU tuning detected",
		"assessment": "Virtual CPUs are pinned to processors of the host. The target platform can dedicate one processor to each virtual CPU, but not pin them as here; the pinning is not carried over.",
	}
}
