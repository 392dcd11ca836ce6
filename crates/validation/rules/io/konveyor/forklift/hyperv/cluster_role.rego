package io.konveyor.forklift.hyperv

import rego.v1

is_on_cluster if input.managementType == "cluster"

default is_cluster_role := false

is_cluster_role if input.isClusterRole

concerns contains flag if {
	is_on_cluster
	not is_cluster_role
	flag := {
		"id": "hyperv.cluster_role.not_registered",
		"category": "Warning",
		"label": "VM is not a Failover Cluster role",
		"assessment": "The VM lives on a node of a failover cluster without being a role of it: if its node fails, nobody starts it elsewhere, and a migration that runs fails with it. It can be migrated as it is.",
	}
}
