//! Several VMs with one UUID.
//!
//! Clones and restored VMs may have the BIOS UUID of another VM. Forklift tells VMs apart by id and instance UUID, reads
//! both again before it switches one off, and converts disks that it copied itself: the VM that is meant is the one that is
//! touched. What two VMs share is visible in their guests, so it is said. Where not even the instance UUID differs, a
//! host that is asked directly could not tell them apart: such VMs are refused.
use std::collections::BTreeMap;

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};

/// The check.
pub const CHECK: Check = Check { conditions: &[types::DUPLICATE_VM_UUID], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    // a VM that is named twice is a finding of its own
    let mut vms: BTreeMap<String, BTreeMap<&str, (String, String)>> = BTreeMap::new();
    for (vm, machine) in facts.machines().filter(|(_, machine)| !machine.uuid.is_empty()) {
        let of_uuid = vms.entry(machine.uuid.to_ascii_lowercase()).or_default();
        of_uuid.insert(&machine.id, (vm.display(), machine.instance_uuid.to_ascii_lowercase()));
    }
    let (mut told_apart, mut same) = (Vec::new(), Vec::new());
    for (uuid, of_uuid) in vms.iter().filter(|(_, of_uuid)| of_uuid.len() > 1) {
        let names: Vec<&str> = of_uuid.values().map(|(name, _)| name.as_str()).collect();
        let mut instances: Vec<&str> = of_uuid.values().map(|(_, instance)| instance.as_str()).collect();
        instances.sort_unstable();
        let unique = instances.windows(2).all(|pair| pair[0] != pair[1]);
        let item = format!("{uuid}: {}", names.join(", "));
        if unique && !instances.contains(&"") { told_apart.push(item) } else { same.push(item) }
    }
    let severe = !same.is_empty();
    same.extend(told_apart);
    let condition = finding(same, || {
        let (category, message) = if severe {
            (
                Category::Critical,
                "Several VMs have the same BIOS UUID and no instance UUIDs that differ: they cannot be told apart.",
            )
        } else {
            (
                Category::Warn,
                "Several VMs have the same BIOS UUID: they are told apart by id and instance UUID, and keep it on the target.",
            )
        };
        Condition::new(types::DUPLICATE_VM_UUID, category, message)
            .reason(reasons::NOT_UNIQUE)
            .suggestion("Give each VM a UUID of its own at the source, if software in the guests goes by it.")
    });
    condition.into_iter().collect()
}
