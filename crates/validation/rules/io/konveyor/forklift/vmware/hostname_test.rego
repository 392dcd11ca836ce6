package io.konveyor.forklift.vmware

import rego.v1

test_hostname_empty if {
	vm := {"name": "test", "hostName": ""}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.hostname.empty"}
}

test_hostname_default if {
	vm := {"name": "test", "hostName": "localhost.localdomain"}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.hostname.default"}
}

test_hostname_own if {
	vm := {"name": "test", "hostName": "web-01.example.com"}
	count(concerns) == 0 with input as vm
}

test_hostname_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "hostName": null},
	] {
		count(concerns) == 0 with input as vm
	}
}
