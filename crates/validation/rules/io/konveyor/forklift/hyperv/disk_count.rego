package io.konveyor.forklift.hyperv

import rego.v1

# KubeVirt's limit on disks of one VM
max_disk_count := 165

has_too_many_disks if count(input.disks) > max_disk_count

concerns contains flag if {
	has_too_many_disks
	flag := {
		"id": "hyperv.disk.count.exceeds.limit",
		"category": "Warning",
		"label": sprintf("VM has %d disks, which exceeds the limit of %d", [count(input.disks), max_disk_count]),
		"assessment": sprintf("The target platform attaches at most %d disks to a VM and this one has %d. The migration may fail, or the VM may not start with all of its disks.", [max_disk_count, count(input.disks)]),
	}
}
