package io.konveyor.forklift.hyperv

import rego.v1

test_cluster_role_no_role if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "managementType": "cluster", "isClusterRole": false}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.cluster_role.not_registered"}
}

test_cluster_role_not_told if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "managementType": "cluster"}
	found := {c.id | some c in concerns} with input as vm
	found == {"hyperv.cluster_role.not_registered"}
}

test_cluster_role_role if {
	vm := {"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "managementType": "cluster", "isClusterRole": true}
	count(concerns) == 0 with input as vm
}

test_cluster_role_no_cluster if {
	every vm in [
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "managementType": "standalone", "isClusterRole": false},
		{"name": "test", "guestNetworks": [{"ip": "10.0.0.5"}], "isClusterRole": false},
	] {
		count(concerns) == 0 with input as vm
	}
}
