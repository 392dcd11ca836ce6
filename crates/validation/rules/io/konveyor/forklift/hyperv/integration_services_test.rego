package io.konveyor.forklift.hyperv

import rego.v1

test_integration_services_no_guest_os if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "powerState": "On"}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.integration_services.not_detected"}
}

test_integration_services_empty_guest_os if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "powerState": "On", "guestOS": ""}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.integration_services.not_detected"}
}

test_integration_services_running if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "powerState": "On", "guestOS": "Windows Server 2022"}
	count(concerns) == 0 with input as vm
}

test_integration_services_off if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "powerState": "Off"},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
