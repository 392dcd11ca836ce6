package io.konveyor.forklift.openstack

import rego.v1

has_unsupported_disk_bus if {
	bus := input.image.properties.hw_disk_bus
	not regex.match(`sata|scsi|virtio`, bus)
}

concerns contains flag if {
	has_unsupported_disk_bus
	flag := {
		"id": "openstack.disk.unsupported_interface",
		"category": "Warning",
		"label": "Unsupported disk interface type detected",
		"assessment": "The image asks for a disk bus other than SATA, SCSI or VirtIO. The disks become VirtIO disks: the guest needs the driver, and may see them under other names.",
	}
}
