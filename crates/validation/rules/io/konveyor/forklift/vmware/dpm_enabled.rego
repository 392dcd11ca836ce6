package io.konveyor.forklift.vmware

import rego.v1

has_dpm_enabled if input.host.cluster.dpmEnabled

concerns contains flag if {
	has_dpm_enabled
	flag := {
		"id": "vmware.dpm.enabled",
		"category": "Information",
		"label": "vSphere DPM detected",
		"assessment": "The cluster switches idle hosts off by Distributed Power Management. The target platform has nothing like it; the VM itself migrates as it is.",
	}
}
