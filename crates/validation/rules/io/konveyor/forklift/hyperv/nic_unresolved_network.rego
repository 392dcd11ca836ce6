package io.konveyor.forklift.hyperv

import rego.v1

has_switch_name(nic) if {
	is_string(nic.networkName)
	nic.networkName != ""
}

has_network_id(nic) if {
	is_string(nic.network.id)
	nic.network.id != ""
}

concerns contains flag if {
	nic := input.nics[_]
	has_switch_name(nic)
	not has_network_id(nic)
	flag := {
		"id": "hyperv.nic.unresolved_network",
		"category": "Warning",
		"label": sprintf("NIC '%v' references undiscovered switch '%v'", [nic.name, nic.networkName]),
		"assessment": sprintf("NIC '%v' hangs on the virtual switch '%v', which the inventory does not know: on a cluster it may exist on another node only. The NIC is left out of the migration until the provider's host, or all nodes, have the switch.", [nic.name, nic.networkName]),
	}
}
