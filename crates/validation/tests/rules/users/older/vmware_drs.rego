package io.konveyor.forklift.vmware

has_drs_enabled {
    input.host.cluster.drsEnabled
}

concerns[flag] {
    has_drs_enabled
    flag := {
        "category": "Information",
        "label": "VM runs in a DRS cluster of ours",
        "assessment": "Bodies without if, sets without contains: the dialect of OPA before 1.0."
    }
}
