package io.konveyor.forklift.openstack

import rego.v1

# versions of each distribution that the conversion supports: distribution, version
supported_guests := [
	{"distro": `rhel|centos`, "version": `^9|^8|^7`},
	{"distro": `windows`, "version": `2008|2012|2016|2019|2022|2k8|2k12|2k16|2k19|2k22|^7|^8|^10|^11`},
	{"distro": `fedora`, "version": `^3[678]$`},
]

is_supported_guest if {
	some guest in supported_guests
	regex.match(guest.distro, input.image.properties.os_distro)
	regex.match(guest.version, input.image.properties.os_version)
}

has_image_property(name) if name in object.keys(input.image.properties)

has_unsupported_guest_os if {
	has_image_property("os_distro")
	has_image_property("os_version")
	not is_supported_guest
}

concerns contains flag if {
	has_unsupported_guest_os
	flag := {
		"id": "openstack.os.unsupported",
		"category": "Warning",
		"label": "Unsupported operative system detected",
		"assessment": "The conversion is not supported for the guest operating system that the image names. It may work; try it with a copy of the VM, and look after drivers, boot and network in the migrated one.",
	}
}
