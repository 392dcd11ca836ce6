package io.konveyor.forklift.ovirt

import rego.v1

test_usb_on if {
	vm := {"name": "test", "usbEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.usb.enabled"}
}

test_usb_off if {
	vm := {"name": "test", "usbEnabled": false}
	count(concerns) == 0 with input as vm
}

test_usb_not_told if {
	vm := {"name": "test"}
	count(concerns) == 0 with input as vm
}
