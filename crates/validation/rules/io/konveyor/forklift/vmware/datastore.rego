package io.konveyor.forklift.vmware

import rego.v1

disk_without_datastore if {
	disk := input.disks[_]
	count(disk.datastore.id) == 0
}

concerns contains flag if {
	disk_without_datastore
	flag := {
		"id": "vmware.datastore.missing",
		"category": "Critical",
		"label": "Disk is not located on a datastore",
		"assessment": "A disk of the VM has no datastore, so its data cannot be read. Move the disk to a datastore or remove it from the VM, then migrate.",
	}
}
