package io.konveyor.forklift.openshift

import rego.v1

# A VM that runs on KubeVirt has nothing that KubeVirt lacks: the set is empty, and users' rules add to it.
concerns contains flag if {
	some flag in []
}
