package io.konveyor.forklift.vmware

import future.keywords.in

default pinned = false

pinned = true { count(input.numaNodeAffinity) != 0 }
pinned = true { count(input.cpuAffinity) != 0 }

size_class(bytes) = "large" { bytes >= 17179869184 } else = "small" { true }

snapshot_kinds = {"VirtualMachineSnapshot"}

concerns[flag] {
    pinned
    input.snapshot.kind in snapshot_kinds
    classes := {class | class := size_class(input.disks[_].capacity)}
    flag := {
        "id": "site.pinned",
        "category": "Critical",
        "label": sprintf("Pinned, disks are %v", [classes]),
        "assessment": "Several definitions, default, else, a comprehension, an imported keyword."
    }
}
