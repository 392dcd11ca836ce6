package io.konveyor.forklift.vmware

import rego.v1

# whether the VM has a virtual device of this vSphere type
has_device(kind) if {
	device := input.devices[_]
	device.kind == kind
}
