package site.rules

import rego.v1

allow := true
