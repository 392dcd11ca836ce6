package io.konveyor.forklift.vmware

import rego.v1

has_tpm_enabled if input.tpmEnabled == true

concerns contains flag if {
	has_tpm_enabled
	flag := {
		"id": "vmware.tpm.detected",
		"category": "Warning",
		"label": "TPM detected",
		"assessment": "What the VM's virtual TPM holds stays at the source; the migrated VM gets an empty one. Have recovery keys at hand where the guest seals disk encryption or credentials with it.",
	}
}
