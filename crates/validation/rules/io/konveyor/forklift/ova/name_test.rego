package io.konveyor.forklift.ova

import rego.v1

named(name) := {"name": name, "exportSource": "VMware"}

test_name_valid if {
	every name in ["test", "web-01", "a.b.c", "Mixed"] {
		count(concerns) == 0 with input as named(name)
	}
}

test_name_invalid_characters if {
	every name in ["my_vm", "my/vm", "-vm", "vm-", "two words"] {
		found := {c.id | some c in concerns} with input as named(name)
		found == {"ova.name.invalid"}
	}
}

test_name_length if {
	count(concerns) == 0 with input as named(concat("", ["x" | some _ in numbers.range(1, 63)]))
	count(concerns) == 1 with input as named(concat("", ["x" | some _ in numbers.range(1, 64)]))
}
