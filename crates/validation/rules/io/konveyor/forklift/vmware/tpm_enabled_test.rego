package io.konveyor.forklift.vmware

import rego.v1

test_tpm_enabled_present if {
	vm := {"name": "test", "tpmEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.tpm.detected"}
}

test_tpm_enabled_absent if {
	every vm in [
		{"name": "test", "tpmEnabled": false},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
