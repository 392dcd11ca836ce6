package io.konveyor.forklift.hyperv

import rego.v1

RULES_VERSION := 1

rules_version := {"rules_version": RULES_VERSION}
