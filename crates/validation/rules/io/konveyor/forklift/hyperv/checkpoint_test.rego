package io.konveyor.forklift.hyperv

import rego.v1

test_checkpoint_present if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "hasCheckpoint": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.checkpoint.detected"}
}

test_checkpoint_absent if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "hasCheckpoint": false},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}]},
	] {
		count(concerns) == 0 with input as vm
	}
}
