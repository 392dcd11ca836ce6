package io.konveyor.forklift.vmware

import rego.v1

# the guide warns of this one: the bundled rules have another default
default valid_input := false
