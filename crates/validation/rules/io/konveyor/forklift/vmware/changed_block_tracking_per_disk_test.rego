package io.konveyor.forklift.vmware

import rego.v1

test_changed_block_tracking_per_disk_off if {
	vm := {"name": "test", "disks": [{"file": "[ds] vm/a.vmdk", "bus": "scsi", "controllerKey": 1000, "unitNumber": 0, "changeTrackingEnabled": false}]}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.changed_block_tracking.disk.disabled"}
}

test_changed_block_tracking_per_disk_on if {
	vm := {"name": "test", "disks": [{"file": "[ds] vm/a.vmdk", "bus": "scsi", "controllerKey": 1000, "unitNumber": 0, "changeTrackingEnabled": true}]}
	count(concerns) == 0 with input as vm
}

test_changed_block_tracking_per_disk_not_told if {
	every vm in [
		{"name": "test", "disks": []},
		{"name": "test", "disks": [{"file": "a.vmdk"}]},
		{"name": "test", "disks": null},
	] {
		count(concerns) == 0 with input as vm
	}
}

test_changed_block_tracking_per_disk_names_the_slot if {
	vm := {"name": "test", "disks": [{"file": "[ds] vm/a.vmdk", "bus": "scsi", "controllerKey": 1000, "unitNumber": 0, "changeTrackingEnabled": false}, {"file": "[ds] vm/b.vmdk", "bus": "scsi", "controllerKey": 1001, "unitNumber": 3, "changeTrackingEnabled": false}, {"file": "[ds] vm/c.vmdk", "bus": "sata", "controllerKey": 15000, "unitNumber": 2, "changeTrackingEnabled": false}, {"file": "[ds] vm/d.vmdk", "bus": "ide", "controllerKey": 201, "unitNumber": 1, "changeTrackingEnabled": true}]}
	found := {c.label | some c in concerns} with input as vm
	found == {"Disk - scsi0:0 does not have CBT enabled", "Disk - scsi1:3 does not have CBT enabled", "Disk - sata0:2 does not have CBT enabled"}
}

test_changed_block_tracking_per_disk_needs_a_device_key if {
	every key in ["1000", null, 1000.5, 1e300] {
		vm := {"name": "test", "disks": [{
			"file": "a",
			"bus": "scsi",
			"controllerKey": key,
			"unitNumber": 0,
			"changeTrackingEnabled": false,
		}]}
		count(concerns) == 0 with input as vm
	}
}
