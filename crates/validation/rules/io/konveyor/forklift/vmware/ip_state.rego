package io.konveyor.forklift.vmware

import rego.v1

is_vm_missing_ip if count(input.guestNetworks) == 0

concerns contains flag if {
	is_vm_missing_ip
	flag := {
		"id": "vmware.vm_missing_ip.detected",
		"category": "Warning",
		"label": "VM is missing IP addresses",
		"assessment": "vSphere knows no IP address of the guest, so static addresses cannot be kept. Power the VM on with VMware Tools running, and wait until its addresses are shown.",
	}
}
