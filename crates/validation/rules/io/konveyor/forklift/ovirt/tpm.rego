package io.konveyor.forklift.ovirt

import rego.v1

has_tpm_os if regex.match(`windows_2022|windows_11`, input.osType)

concerns contains flag if {
	has_tpm_os
	flag := {
		"id": "ovirt.tpm.required_by_os",
		"category": "Warning",
		"label": "TPM detected",
		"assessment": "This Windows needs a TPM, and what the VM's holds stays at the source; the migrated VM gets an empty one. Have recovery keys at hand where BitLocker or the like is in use.",
	}
}
