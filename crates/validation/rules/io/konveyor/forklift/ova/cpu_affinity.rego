package io.konveyor.forklift.ova

import rego.v1

has_cpu_affinity if count(input.cpuAffinity) > 0

concerns contains flag if {
	has_cpu_affinity
	flag := {
		"id": "ova.cpu_affinity.detected",
		"category": "Warning",
		"label": "CPU affinity detected",
		"assessment": "CPU affinity is not carried over. Set it on the migrated VM if it is still wanted.",
	}
}
