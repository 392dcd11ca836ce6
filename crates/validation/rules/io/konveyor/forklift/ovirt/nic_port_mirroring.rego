package io.konveyor.forklift.ovirt

import rego.v1

nics_with_port_mirroring contains idx if {
	some idx
	input.nics[idx].profile.portMirroring == true
}

concerns contains flag if {
	count(nics_with_port_mirroring) > 0
	flag := {
		"id": "ovirt.nic.port_mirroring.detected",
		"category": "Warning",
		"label": "NIC with port mirroring detected",
		"assessment": "A NIC receives a copy of the other traffic of its network. Port mirroring is not carried over: what the VM watches for, it will not see.",
	}
}
