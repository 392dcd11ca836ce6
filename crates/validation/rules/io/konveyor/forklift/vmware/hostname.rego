package io.konveyor.forklift.vmware

import rego.v1

is_empty_hostname if input.hostName == ""

is_localhost_hostname if input.hostName == "localhost.localdomain"

concerns contains flag if {
	is_empty_hostname
	flag := {
		"id": "vmware.hostname.empty",
		"category": "Warning",
		"label": "Empty Host Name",
		"assessment": "The guest tells no host name. The guest may come up under another name after the migration; set one in it if that matters.",
	}
}

concerns contains flag if {
	is_localhost_hostname
	flag := {
		"id": "vmware.hostname.default",
		"category": "Warning",
		"label": "Default Host Name",
		"assessment": "The guest's host name is still 'localhost.localdomain'. The guest may come up under another name after the migration; set one in it if that matters.",
	}
}
