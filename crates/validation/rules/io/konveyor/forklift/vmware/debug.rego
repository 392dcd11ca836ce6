package io.konveyor.forklift.vmware

import rego.v1

debug if trace(sprintf("vmware rules: VM %v", [input.name]))
