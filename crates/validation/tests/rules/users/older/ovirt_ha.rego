package io.konveyor.forklift.ovirt

concerns[{"category": "Warning", "label": label, "assessment": "A term as the key of the set."}] {
    input.haEnabled == true
    label := concat(" ", ["HA", input.status])
}
