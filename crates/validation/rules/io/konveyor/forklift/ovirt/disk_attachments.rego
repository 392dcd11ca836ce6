package io.konveyor.forklift.ovirt

import rego.v1

# attachments that can be told apart, which rules compare their counts with
disk_attachments contains idx if {
	some idx
	input.diskAttachments[idx].id
}

# positions of the attachments whose disks have this kind of storage
disks_of_storage_type(kind) := {idx |
	some idx
	input.diskAttachments[idx].disk.storageType == kind
}
