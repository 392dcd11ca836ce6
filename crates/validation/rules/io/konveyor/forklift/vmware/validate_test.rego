package io.konveyor.forklift.vmware

import rego.v1

test_validate_shape if {
	result := validate with input as {"name": "test"}
	result == {"rules_version": 5, "errors": set(), "concerns": set()}
}

test_validate_without_a_name if {
	every vm in [{}, {"name": null}, {"name": 7}] {
		result := validate with input as vm
		result.errors == {"No VM name found in input body"}
	}
}
