package io.konveyor.forklift.ova

import rego.v1

test_export_source_vmware if {
	count(concerns) == 0 with input as {"name": "test", "exportSource": "VMware"}
}

test_export_source_others if {
	every source in ["VirtualBox", "Xen", "oVirt", "Unknown"] {
		found := {c.id | some c in concerns} with input as {"name": "test", "exportSource": source}
		found == {"ova.source.unsupported"}
	}
}

test_export_source_other_spelling if {
	count(concerns) == 1 with input as {"name": "test", "ovaSource": "Unknown"}
	count(concerns) == 0 with input as {"name": "test", "ovaSource": "VMware"}
}

test_export_source_absent if {
	count(concerns) == 0 with input as {"name": "test"}
}

test_export_source_odd_value if {
	every source in [false, null, 0, ""] {
		vm := {"name": "test", "exportSource": source, "ovaSource": "VMware"}
		count(concerns) == 1 with input as vm
	}
}
