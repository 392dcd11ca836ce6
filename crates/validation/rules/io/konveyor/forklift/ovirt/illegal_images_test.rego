package io.konveyor.forklift.ovirt

import rego.v1

test_illegal_images_on if {
	vm := {"name": "test", "hasIllegalImages": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.disk.illegal_images.detected"}
}

test_illegal_images_off if {
	vm := {"name": "test", "hasIllegalImages": false}
	count(concerns) == 0 with input as vm
}

test_illegal_images_not_told if {
	vm := {"name": "test"}
	count(concerns) == 0 with input as vm
}
