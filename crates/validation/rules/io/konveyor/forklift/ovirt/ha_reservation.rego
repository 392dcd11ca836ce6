package io.konveyor.forklift.ovirt

import rego.v1

has_ha_reservation if input.cluster.haReservation

concerns contains flag if {
	has_ha_reservation
	flag := {
		"id": "ovirt.ha.reservation.enabled",
		"category": "Warning",
		"label": "Cluster has HA reservation",
		"assessment": "The source's cluster keeps room free to start highly available VMs elsewhere. The target platform has no such reservation: keep enough room yourself.",
	}
}
