package io.konveyor.forklift.ovirt

import rego.v1

nics_with_network_filter contains idx if {
	some idx
	input.nics[idx].profile.networkFilter != ""
}

concerns contains flag if {
	count(nics_with_network_filter) > 0
	flag := {
		"id": "ovirt.nic.network_filter.detected",
		"category": "Warning",
		"label": "NIC with network filter detected",
		"assessment": "The source filters the traffic of a NIC, for instance against forged addresses. The filter is not carried over; network policies or the network's own settings take its place.",
	}
}
