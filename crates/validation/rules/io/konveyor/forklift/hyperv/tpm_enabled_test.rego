package io.konveyor.forklift.hyperv

import rego.v1

test_tpm_enabled_present if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "tpmEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.tpm.detected"}
}

test_tpm_enabled_absent if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "tpmEnabled": false},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
