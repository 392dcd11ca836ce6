package io.konveyor.forklift.hyperv

import rego.v1

# guests that virt-v2v converts with support: https://access.redhat.com/articles/1351473
supported_guest_names := {
	"red hat enterprise linux 7",
	"red hat enterprise linux 8",
	"red hat enterprise linux 9",
	"red hat enterprise linux 10",
	"windows 10",
	"windows 11",
	"windows server 2016",
	"windows server 2019",
	"windows server 2022",
	"windows server 2025",
}

is_supported_os if {
	some supported in supported_guest_names
	contains(lower(input.guestOS), supported)
}

concerns contains flag if {
	has_guest_os
	not is_supported_os
	flag := {
		"id": "hyperv.os.unsupported",
		"category": "Warning",
		"label": "Unsupported operating system detected",
		"assessment": "The conversion is not supported for this guest operating system. It may work; try it with a copy of the VM, and look after drivers, boot and network in the migrated one.",
	}
}
