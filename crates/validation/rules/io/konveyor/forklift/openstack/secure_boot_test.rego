package io.konveyor.forklift.openstack

import rego.v1

test_secure_boot_image if {
	vm := {"name": "test", "image": {"properties": {"os_secure_boot": "required"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.secure_boot.detected"}
}

test_secure_boot_flavor if {
	vm := {"name": "test", "flavor": {"extraSpecs": {"os:secure_boot": "required"}}}
	found := {c.id | some c in concerns} with input as vm
	found == {"openstack.secure_boot.detected"}
}

test_secure_boot_not_required if {
	every vm in [
		{"name": "test", "image": {"properties": {"os_secure_boot": "disabled"}}},
		{"name": "test", "flavor": {"extraSpecs": {"os:secure_boot": "optional"}}},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
