package io.konveyor.forklift.hyperv

import rego.v1

test_secure_boot_on if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "secureBoot": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.secure_boot.detected"}
}

test_secure_boot_off if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "secureBoot": false},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
