package io.konveyor.forklift.openstack

import rego.v1

# whether the VM's flavor has this extra spec, whatever its value
has_extra_spec(name) if name in object.keys(input.flavor.extraSpecs)
