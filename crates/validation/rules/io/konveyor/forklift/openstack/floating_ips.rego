package io.konveyor.forklift.openstack

import rego.v1

networks_with_floating_ips contains network if {
	some network
	input.addresses[network][_]["OS-EXT-IPS:type"] == "floating"
}

concerns contains flag if {
	count(networks_with_floating_ips) > 0
	flag := {
		"id": "openstack.network.floating_ips.detected",
		"category": "Warning",
		"label": "Floating IPs detected",
		"assessment": "The VM is reached by floating IPs. They are not carried over; publish the migrated VM by a service, a load balancer or a route of the target's network.",
	}
}
