package io.konveyor.forklift.ovirt

import rego.v1

has_unsupported_os if regex.match(`rhel_6|rhel_6x64`, input.osType)

concerns contains flag if {
	has_unsupported_os
	flag := {
		"id": "ovirt.os.unsupported",
		"category": "Warning",
		"label": "Unsupported operating system detected",
		"assessment": "Red Hat Enterprise Linux 6 is not supported as a guest of the target platform. It may work; try it with a copy of the VM, or upgrade the guest first.",
	}
}
