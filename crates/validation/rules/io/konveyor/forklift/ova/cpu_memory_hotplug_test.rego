package io.konveyor.forklift.ova

import rego.v1

hotplug_vm(cpu_add, cpu_remove, memory_add) := {
	"name": "test",
	"exportSource": "VMware",
	"cpuHotAddEnabled": cpu_add,
	"cpuHotRemoveEnabled": cpu_remove,
	"memoryHotAddEnabled": memory_add,
}

test_hotplug_off if {
	count(concerns) == 0 with input as hotplug_vm(false, false, false)
}

test_hotplug_each_flag if {
	count(concerns) == 1 with input as hotplug_vm(true, false, false)
	count(concerns) == 1 with input as hotplug_vm(false, true, false)
	count(concerns) == 1 with input as hotplug_vm(false, false, true)
}

test_hotplug_reported_once if {
	found := [c.id | some c in concerns] with input as hotplug_vm(true, true, true)
	found == ["ova.cpu_memory.hotplug.enabled"]
}
