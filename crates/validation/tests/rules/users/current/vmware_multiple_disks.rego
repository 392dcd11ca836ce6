package io.konveyor.forklift.vmware

import rego.v1

# as the guide has it, in the present dialect; without an id
has_multiple_disks if {
	count(input.disks) > 1
}

concerns contains flag if {
	has_multiple_disks
	flag := {
		"category": "Information",
		"label": "Multiple disks detected",
		"assessment": "Multiple disks detected on this VM.",
	}
}
