package io.konveyor.forklift.hyperv

import rego.v1

test_nic_unresolved_network_empty if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "nics": [{"name": "n", "networkName": "LAN", "network": {"id": ""}}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.nic.unresolved_network"}
}

test_nic_unresolved_network_absent if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "nics": [{"name": "n", "networkName": "LAN"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.nic.unresolved_network"}
}

test_nic_unresolved_network_known if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "nics": [{"name": "n", "networkName": "LAN", "network": {"id": "1"}}]}
	count(concerns) == 0 with input as vm
}

test_nic_unresolved_network_not_connected if {
	every vm in [
		{"guestNetworks": [{"ip": "10.0.0.5"}], "nics": [{"name": "n", "networkName": "", "network": {"id": ""}}]},
		{"guestNetworks": [{"ip": "10.0.0.5"}], "nics": [{"name": "n"}]},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_nic_unresolved_network_each_nic_is_named if {
	vm := {"guestNetworks": [{"ip": "10.0.0.5"}], "nics": [{"name": "n", "networkName": "LAN"}, {"name": "m", "networkName": "DMZ"}]}
	found := {c.label | some c in concerns} with input as vm
	found == {"NIC 'n' references undiscovered switch 'LAN'", "NIC 'm' references undiscovered switch 'DMZ'"}
}
