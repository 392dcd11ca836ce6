package io.konveyor.forklift.ova

import rego.v1

test_cpu_affinity_empty if {
	vm := {"name": "test", "exportSource": "VMware", "cpuAffinity": []}
	count(concerns) == 0 with input as vm
}

test_cpu_affinity_absent if {
	vm := {"name": "test", "exportSource": "VMware"}
	count(concerns) == 0 with input as vm
}

test_cpu_affinity_set if {
	vm := {"name": "test", "exportSource": "VMware", "cpuAffinity": [0, 2]}
	found := {c.id | some c in concerns} with input as vm
	found == {"ova.cpu_affinity.detected"}
}
