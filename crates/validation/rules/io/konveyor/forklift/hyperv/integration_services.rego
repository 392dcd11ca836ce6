package io.konveyor.forklift.hyperv

import rego.v1

is_missing_integration_services if {
	input.powerState == "On"
	not has_guest_os
}

concerns contains flag if {
	is_missing_integration_services
	flag := {
		"id": "hyperv.integration_services.not_detected",
		"category": "Warning",
		"label": "Hyper-V Integration Services not detected",
		"assessment": "The VM runs, but nothing in it tells its operating system or addresses. Static addresses cannot be kept then: start the integration services in the guest, and wait until they are seen.",
	}
}
