package io.konveyor.forklift.ovirt

import rego.v1

has_io_threads if input.ioThreads > 1

concerns contains flag if {
	has_io_threads
	flag := {
		"id": "ovirt.iothreads.configured",
		"category": "Information",
		"label": "IO Threads configuration detected",
		"assessment": "The VM's disks are served by several I/O threads. That is not carried over; set the I/O threads policy of the migrated VM if it is wanted.",
	}
}
