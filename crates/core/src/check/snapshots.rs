//! Snapshots that VMs have before a warm migration takes its own.
//!
//! The rounds of a warm migration read the frozen base of a snapshot. Below a snapshot of somebody else that base is a
//! chain of files; only some ways of reading can follow it ([`Capabilities::foreign_snapshots`]). What a lost migration of
//! ours left is named apart: nobody needs it any more.
//!
//! [`Capabilities::foreign_snapshots`]: crate::source::Capabilities::foreign_snapshots
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::plan::world::MigrationKind;

/// The longest chain of snapshots that vSphere makes.
const LONGEST: u32 = 32;

/// The check.
pub const CHECK: Check = Check { conditions: &[types::VM_HAS_SNAPSHOTS, types::STALE_SNAPSHOTS], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    if facts.plan.kind != MigrationKind::Warm || !facts.plan.source.warm {
        return Vec::new();
    }
    let tolerated = facts.plan.source.foreign_snapshots;
    let full = facts.items(|_, machine| {
        // the round's own snapshot has to fit, and the next one before the last is gone
        (machine.traits.snapshots + 2 > LONGEST)
            .then(|| format!("{} snapshots of at most {LONGEST}", machine.traits.snapshots))
    });
    let any = facts.items(|_, machine| {
        let count = machine.traits.snapshots;
        (count > 0).then(|| format!("{count} snapshot{}", if count == 1 { "" } else { "s" }))
    });
    let stale = facts.items(|vm, machine| {
        let left = &machine.traits.migration_snapshots;
        (!left.is_empty() && !vm.started).then(|| left.join(", "))
    });
    let snapshots = if !full.is_empty() {
        finding(full, || {
            Condition::new(
                types::VM_HAS_SNAPSHOTS,
                Category::Critical,
                "VMs have so many snapshots that none can be added.",
            )
            .suggestion("Remove snapshots of the VMs.")
        })
    } else if tolerated {
        finding(any, || {
            Condition::new(
                types::VM_HAS_SNAPSHOTS,
                Category::Warn,
                "VMs have snapshots: without VDDK every round reads the whole of their disks and writes what differs.",
            )
            .suggestion("Remove the snapshots where the rounds take too long.")
        })
    } else {
        finding(any, || {
            Condition::new(types::VM_HAS_SNAPSHOTS, Category::Critical, "Warm migration needs VMs without snapshots.")
                .suggestion("Remove the VMs' snapshots, or use a cold migration.")
        })
    };
    let stale = finding(stale, || {
        Condition::new(
            types::STALE_SNAPSHOTS,
            Category::Warn,
            "Earlier migrations that were lost left snapshots on the VMs.",
        )
        .reason(reasons::NOT_VALID)
        .suggestion(format!(
            "Set the plan's annotation {}=true: they are removed, unless a migration that runs uses them.",
            forklift_api::annotations::REMOVE_STALE_SNAPSHOTS
        ))
    });
    [snapshots.map(|condition| condition.reason(reasons::NOT_VALID)), stale].into_iter().flatten().collect()
}
