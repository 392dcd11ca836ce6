package io.konveyor.forklift.openshift

import rego.v1

default valid_vm := false

valid_vm if is_string(input.name)
