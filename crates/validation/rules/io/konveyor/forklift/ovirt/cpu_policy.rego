package io.konveyor.forklift.ovirt

import rego.v1

# the policy 'manual' shows in cpuAffinity, which has a rule of its own
has_unsupported_cpu_policy if regex.match(`resize_and_pin_numa|isolate_threads`, input.cpuPinningPolicy)

concerns contains flag if {
	has_unsupported_cpu_policy
	flag := {
		"id": "ovirt.cpu.pinning_policy.unsupported",
		"category": "Warning",
		"label": "Unsupported CPU pinning policy detected",
		"assessment": "The target platform has no pinning policy like 'resize and pin NUMA' or 'isolate threads'. The VM is migrated without it; consider dedicated CPU placement there.",
	}
}
