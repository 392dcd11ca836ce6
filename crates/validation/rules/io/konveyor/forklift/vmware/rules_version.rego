package io.konveyor.forklift.vmware

import rego.v1

RULES_VERSION := 5

rules_version := {"rules_version": RULES_VERSION}
