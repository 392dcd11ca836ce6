package io.konveyor.forklift.vmware

import rego.v1

has_host_affinity if {
	vm := input.host.cluster.hostAffinityVms[_]
	vm.id == input.id
}

concerns contains flag if {
	has_host_affinity
	flag := {
		"id": "vmware.host_affinity.detected",
		"category": "Warning",
		"label": "VM-Host affinity detected",
		"assessment": "A rule of the cluster binds the VM to certain hosts. It is not carried over; set node affinity on the migrated VM if it is still wanted.",
	}
}
