package io.konveyor.forklift.vmware

import rego.v1

# guests that virt-v2v converts with support: https://access.redhat.com/articles/1351473
supported_guest_ids := `(rhel([7-9]|10)(_64)?|windows(10|11|2016|2019|2022|2025).*)guest`

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

# what the guest tools tell, and where they tell nothing what vSphere was told
guest_os_name := input.guestNameFromVmwareTools if {
	is_string(input.guestNameFromVmwareTools)
	input.guestNameFromVmwareTools != ""
} else := input.guestName if {
	is_string(input.guestName)
}

is_known_os if is_string(input.guestId)

is_known_os if guest_os_name

is_supported_os if regex.match(supported_guest_ids, lower(input.guestId))

is_supported_os if {
	some supported in supported_guest_names
	contains(lower(guest_os_name), supported)
}

concerns contains flag if {
	is_known_os
	not is_supported_os
	flag := {
		"id": "vmware.os.unsupported",
		"category": "Warning",
		"label": "Unsupported operating system detected",
		"assessment": "The conversion is not supported for this guest operating system. It may work; try it with a copy of the VM, and look after drivers, boot and network in the migrated one.",
	}
}
