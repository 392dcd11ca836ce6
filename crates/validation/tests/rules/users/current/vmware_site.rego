package io.konveyor.forklift.vmware

import rego.v1

# functions, comprehensions, else, sets, several concerns of one rule, and names of the bundled rules
slow_datastores := {"datastore-63", "datastore-64"}

size_class(bytes) := "large" if {
	bytes >= 16 * 1024 * 1024 * 1024
} else := "medium" if {
	bytes >= 10 * 1024 * 1024 * 1024
} else := "small"

total_capacity := sum([disk.capacity | some disk in input.disks])

concerns contains flag if {
	some disk in input.disks
	disk.datastore.id in slow_datastores
	flag := {
		"id": "site.disk.slow",
		"category": "Warning",
		"label": sprintf("A %s disk is on a slow datastore: %s", [size_class(disk.capacity), trim_prefix(disk.file, "[iSCSI_Datastore] ")]),
		"assessment": sprintf("%d of %d bytes.", [disk.capacity, total_capacity]),
	}
}

concerns contains flag if {
	has_drs_enabled
	not startswith(input.guestName, "Microsoft Windows")
	every network in input.networks {
		network.kind == "Network"
	}
	flag := {
		"id": "site.drs",
		"category": "Information",
		"label": concat(", ", sort([network.id | some network in input.networks])),
		"assessment": sprintf("max disks: %v", [max_disk_count]),
	}
}

# never: the argument is not there
concerns contains {"id": "site.never", "category": "Critical", "label": "", "assessment": ""} if {
	not startswith(input.annotation, "x")
}
