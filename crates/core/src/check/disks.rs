//! Whether the disks can be read whole: their sizes, and what snapshots and exports leave out.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::machine::{Disk, Machine};
use crate::plan::world::MigrationKind;

/// The check.
pub const CHECK: Check = Check {
    conditions: &[
        types::INVALID_DISK_SIZES,
        types::VM_STORAGE_NOT_SUPPORTED,
        types::RDM_DISK_WARNING,
        types::INDEPENDENT_DISK_WARNING,
    ],
    run,
};

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let warm = facts.plan.kind == MigrationKind::Warm;
    // with volumes that somebody else filled, nothing is read here
    let reads = facts.plan.kind != MigrationKind::Conversion;
    let listed = |machine: &Machine, which: &dyn Fn(&Disk) -> bool| {
        let keys: Vec<_> = machine.disks.iter().filter(|disk| which(disk)).map(|disk| disk.key.clone()).collect();
        (!keys.is_empty()).then(|| keys.join(", "))
    };
    let sizes = facts.items(|_, machine| listed(machine, &|disk| disk.capacity == 0));
    let unreadable = facts.items(|_, machine| {
        let why = |disk: &Disk| {
            if !disk.unsupported.is_empty() {
                Some(format!("{} ({})", disk.key, disk.unsupported))
            } else if (disk.encrypted || machine.traits.encrypted) && facts.plan.vddk_image.is_none() {
                Some(format!("{} (encrypted: only VDDK can read it, and the provider has no VDDK image)", disk.key))
            } else {
                None
            }
        };
        let found: Vec<String> = machine.disks.iter().filter_map(why).collect();
        (reads && !found.is_empty()).then(|| found.join(", "))
    });
    let as_lun = |vm: &super::VmFacts<'_>| vm.spec.rdm_as_lun.unwrap_or(facts.plan.options.rdm_as_lun);
    let rdm = facts.items(|vm, machine| (reads && !as_lun(vm)).then(|| listed(machine, &|disk| disk.rdm)).flatten());
    let independent = facts.items(|_, machine| reads.then(|| listed(machine, &|disk| disk.independent)).flatten());
    let severity = if warm { Category::Critical } else { Category::Warn };
    let say = |type_: &str, message: &str| Condition::new(type_, severity, message).reason(reasons::NOT_SUPPORTED);
    [
        finding(sizes, || {
            Condition::new(
                types::INVALID_DISK_SIZES,
                Category::Critical,
                "The size of some disks is not known or not positive.",
            )
            .reason(reasons::NOT_VALID)
        }),
        finding(unreadable, || {
            Condition::new(types::VM_STORAGE_NOT_SUPPORTED, Category::Critical, "Some disks cannot be read.")
                .reason(reasons::NOT_VALID)
                .suggestion("Detach the disks, decrypt them, or put them on another kind of storage.")
        }),
        finding(rdm, || {
            if warm {
                say(types::RDM_DISK_WARNING, "Snapshots may leave raw device mappings (RDM) out: a warm migration would lose what they hold.")
                    .suggestion("Use a cold migration, or turn the mappings into virtual disks.")
            } else {
                say(types::RDM_DISK_WARNING, "Raw device mappings (RDM) are copied as disks where the source lets them be read; the LUN itself is not attached.")
                    .suggestion("Set rdmAsLun to attach LUNs, or turn the mappings into virtual disks.")
            }
        }),
        finding(independent, || {
            if warm {
                say(types::INDEPENDENT_DISK_WARNING, "Snapshots leave independent disks out: a warm migration would lose what they hold.")
                    .suggestion("Make the disks dependent at the source, or use a cold migration.")
            } else {
                say(types::INDEPENDENT_DISK_WARNING, "Independent disks are copied while the VM is off; they are in no snapshot.")
                    .suggestion("Make the disks dependent at the source, if they shall be migrated warm.")
            }
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
