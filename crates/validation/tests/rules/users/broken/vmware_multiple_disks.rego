package io.konveyor.forklift.vmware

import rego.v1

concerns contains flag if {
	count(input.disks) > 1
	flag := {"category": "Information", "label": "Multiple disks detected", "assessment": "It works beside broken ones."}
}
