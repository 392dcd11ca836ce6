package io.konveyor.forklift.ova

import rego.v1

test_validate_shape if {
	result := validate with input as {"name": "test", "exportSource": "VMware"}
	result == {"rules_version": 5, "errors": set(), "concerns": set()}
}

test_validate_without_a_name if {
	result := validate with input as {}
	result.errors == {"No VM name found in input body"}
}
