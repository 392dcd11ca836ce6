package io.konveyor.forklift.vmware

import rego.v1

test_cpu_memory_hotplug_cpu_add if {
	vm := {"name": "test", "cpuHotAddEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.cpu_memory.hotplug.enabled"}
}

test_cpu_memory_hotplug_cpu_remove if {
	vm := {"name": "test", "cpuHotRemoveEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.cpu_memory.hotplug.enabled"}
}

test_cpu_memory_hotplug_memory_add if {
	vm := {"name": "test", "memoryHotAddEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.cpu_memory.hotplug.enabled"}
}

test_cpu_memory_hotplug_all if {
	vm := {"name": "test", "cpuHotAddEnabled": true, "cpuHotRemoveEnabled": true, "memoryHotAddEnabled": true}
	found := {c.id | some c in concerns} with input as vm
	found == {"vmware.cpu_memory.hotplug.enabled"}
}

test_cpu_memory_hotplug_off if {
	every vm in [
		{"name": "test"},
		{"name": "test", "cpuHotAddEnabled": false, "cpuHotRemoveEnabled": false, "memoryHotAddEnabled": false},
	] {
		count(concerns) == 0 with input as vm
	}
}
