package io.konveyor.forklift.ovirt

import rego.v1

has_other_resume_behaviour if input.storageErrorResumeBehaviour != "auto_resume"

concerns contains flag if {
	has_other_resume_behaviour
	flag := {
		"id": "ovirt.storage.resume_behavior.unsupported",
		"category": "Information",
		"label": "VM storage error resume behavior",
		"assessment": sprintf("After an error of its storage the VM does '%v'. The target platform knows nothing but going on when the storage is back.", [input.storageErrorResumeBehaviour]),
	}
}
