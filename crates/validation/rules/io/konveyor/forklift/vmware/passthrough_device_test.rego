package io.konveyor.forklift.vmware

import rego.v1

test_passthrough_device_present if {
	vm := {"name": "test", "devices": [{"kind": "VirtualCdrom"}, {"kind": "VirtualPCIPassthrough"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.passthrough_device.detected"}
}

test_passthrough_device_absent if {
	every vm in [
		{"name": "test", "devices": [{"kind": "VirtualCdrom"}]},
		{"name": "test", "devices": []},
		{"name": "test", "devices": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
