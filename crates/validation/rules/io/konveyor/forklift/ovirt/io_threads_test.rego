package io.konveyor.forklift.ovirt

import rego.v1

test_io_threads_several if {
	vm := {"name": "test", "ioThreads": 2}
	found := {c.id | some c in concerns} with input as vm
	found == {"ovirt.iothreads.configured"}
}

test_io_threads_one_at_most if {
	every vm in [
		{"name": "test", "ioThreads": 1},
		{"name": "test", "ioThreads": 0},
		{"name": "test"},
	] {
		count(concerns) == 0 with input as vm
	}
}
