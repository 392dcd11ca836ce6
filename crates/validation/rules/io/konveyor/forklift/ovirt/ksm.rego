package io.konveyor.forklift.ovirt

import rego.v1

has_ksm_enabled if input.cluster.ksmEnabled

concerns contains flag if {
	has_ksm_enabled
	flag := {
		"id": "ovirt.cluster.ksm_enabled",
		"category": "Warning",
		"label": "Cluster has KSM enabled",
		"assessment": "The source's cluster merges equal memory pages of its VMs. Where the target's nodes do not, the same VMs need more memory there.",
	}
}
