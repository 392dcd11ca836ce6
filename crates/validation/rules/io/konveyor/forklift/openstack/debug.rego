package io.konveyor.forklift.openstack

import rego.v1

debug if trace(sprintf("openstack rules: VM %v", [input.name]))
