package io.konveyor.forklift.ovirt

import rego.v1

test_ha_reservation_on if {
	vm := {"name": "test", "cluster": {"haReservation": true}}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.ha.reservation.enabled"}
}

test_ha_reservation_off if {
	vm := {"name": "test", "cluster": {"haReservation": false}}
	count(concerns) == 0 with input as vm
}

test_ha_reservation_not_told if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cluster": {}},
	] {
		count(concerns) == 0 with input as vm
	}
}
