package io.konveyor.forklift.vmware

import rego.v1

test_disk_serial_numbers_scsi_with_uuid if {
	vm := {"name": "test", "diskEnableUuid": true, "disks": [{"bus": "sata"}, {"bus": "scsi"}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.disk_serial.truncated"}
}

test_disk_serial_numbers_without_uuid if {
	vm := {"name": "test", "diskEnableUuid": false, "disks": [{"bus": "scsi"}]}
	count(concerns) == 0 with input as vm
}

test_disk_serial_numbers_other_bus if {
	vm := {"name": "test", "diskEnableUuid": true, "disks": [{"bus": "sata"}]}
	count(concerns) == 0 with input as vm
}

test_disk_serial_numbers_no_disks if {
	vm := {"name": "test", "diskEnableUuid": true}
	count(concerns) == 0 with input as vm
}
