package io.konveyor.forklift.hyperv

import rego.v1

debug := input
