package io.konveyor.forklift.hyperv

import rego.v1

default has_guest_networks := false

has_guest_networks if count(input.guestNetworks) > 0

concerns contains flag if {
	not has_guest_networks
	flag := {
		"id": "hyperv.vm_missing_ip.detected",
		"category": "Warning",
		"label": "VM is missing IP addresses",
		"assessment": "Hyper-V knows no IP address of the guest, so static addresses cannot be kept. Power the VM on with the integration services running, and wait until its addresses are shown.",
	}
}
