package io.konveyor.forklift.openshift

import rego.v1

RULES_VERSION := 1

rules_version := {"rules_version": RULES_VERSION}
