package io.konveyor.forklift.ovirt

import rego.v1

import input.memory as memory

default is_big := false

is_big if memory > 64 * 1024 * 1024 * 1024

concerns contains {
	"id": "site.big",
	"category": "Warning",
	"label": sprintf("%v GiB of memory", [memory / (1024 * 1024 * 1024)]),
	"assessment": "Ask the capacity team.",
} if {
	is_big
}
