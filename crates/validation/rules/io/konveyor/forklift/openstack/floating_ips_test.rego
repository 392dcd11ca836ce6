package io.konveyor.forklift.openstack

import rego.v1

test_floating_ips_one_of_two if {
	vm := {"name": "test", "addresses": {"net": [{"addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed"}, {"addr": "192.0.2.5", "OS-EXT-IPS:type": "floating"}]}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.network.floating_ips.detected"}
}

test_floating_ips_none if {
	every vm in [
		{"name": "test", "addresses": {"net": [{"addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed"}]}},
		{"name": "test", "addresses": {}},
		{"name": "test", "addresses": null},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
