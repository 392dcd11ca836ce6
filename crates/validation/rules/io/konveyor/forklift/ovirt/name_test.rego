package io.konveyor.forklift.ovirt

import rego.v1

test_name_valid if {
	every name in ["test", "web-01", "a.b.c", "Mixed", ""] {
		count(concerns) == 0 with input as {"name": name}
	}
}

test_name_invalid if {
	every name in ["my_vm", "my/vm", "-vm", "vm-", "two words", "vm\n", "näme"] {
		found := {c.id | some c in concerns} with input as {"name": name}
		found == {"ovirt.name.invalid"}
	}
}

test_name_length if {
	longest := concat("", ["x" | some _ in numbers.range(1, 63)])
	every name in [longest] {
		count(concerns) == 0 with input as {"name": name}
	}
	every name in [concat("", [longest, "x"])] {
		count(concerns) == 1 with input as {"name": name}
	}
}

test_name_not_a_string if {
	every name in [null, 7, ["test"]] {
		count(concerns) == 0 with input as {"name": name}
	}
}
