package io.konveyor.forklift.vmware

import rego.v1

concerns contains flag if {
	flag := of_nobody(input)
}
