package io.konveyor.forklift.openstack

import rego.v1

RULES_VERSION := 6

rules_version := {"rules_version": RULES_VERSION}
