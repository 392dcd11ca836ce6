package io.konveyor.forklift.ovirt

import rego.v1

debug if trace(sprintf("ovirt rules: VM %v", [input.name]))
