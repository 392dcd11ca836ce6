//! Whether the source can be migrated the way the plan asks, and whether each VM is in a state for it.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::plan::world::MigrationKind;

/// The check.
pub const CHECK: Check = Check {
    conditions: &[
        types::WARM_MIGRATION_NOT_READY,
        types::MIGRATION_TYPE_NOT_VALID,
        types::VM_MIGRATION_TYPE_UNSUPPORTED,
        types::VM_MISSING_CHANGED_BLOCK_TRACKING,
        types::VM_CONSOLIDATION_NEEDED,
    ],
    run,
};

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let source = facts.plan.source;
    let unsupported =
        |type_: &str, message: &str| Condition::new(type_, Category::Critical, message).reason(reasons::NOT_SUPPORTED);
    let mut found = Vec::new();
    match facts.plan.kind {
        MigrationKind::Warm if !source.warm => found.push(
            unsupported(types::WARM_MIGRATION_NOT_READY, "Warm migration from the source provider is not supported.")
                .suggestion("Use a cold migration."),
        ),
        MigrationKind::Live => found.push(
            unsupported(types::MIGRATION_TYPE_NOT_VALID, "Live migration is not supported by this version.")
                .suggestion("Use a cold migration."),
        ),
        MigrationKind::Conversion if !source.conversion_only => found.push(unsupported(
            types::MIGRATION_TYPE_NOT_VALID,
            "Conversion of disks that are already on the target is not supported for the source provider.",
        )),
        MigrationKind::Cold | MigrationKind::Warm | MigrationKind::Conversion => {}
    }
    let refused = facts.items(|_, machine| {
        let template = machine.traits.template.then(|| "is a template".to_owned());
        let away = || match machine.traits.connection.as_str() {
            "" => "is not connected".to_owned(),
            state => format!("is {state}"),
        };
        template.or_else(|| machine.traits.disconnected.then(away))
    });
    found.extend(finding(refused, || {
        unsupported(types::VM_MIGRATION_TYPE_UNSUPPORTED, "These VMs cannot be migrated.").suggestion(
            "Make a VM of a template; bring a VM that is away back to a host of the source that is connected.",
        )
    }));
    if facts.plan.kind == MigrationKind::Warm && source.warm {
        found.extend(warm(facts));
    }
    found
}

fn warm(facts: &Facts<'_>) -> Vec<Condition> {
    let none = |holds: bool| holds.then(String::new);
    let untracked = finding(facts.items(|_, m| none(!m.traits.change_tracking)), || {
        Condition::new(types::VM_MISSING_CHANGED_BLOCK_TRACKING, Category::Critical, "Changed Block Tracking (CBT) has not been enabled on some VMs. This feature is a prerequisite for VM warm migration.")
            .reason(reasons::MISSING_CHANGED_BLOCK_TRACKING)
            .suggestion("Set changeTrackingEnabled of the VM to true; it takes effect with the next snapshot, power-on or migration between hosts. Or use a cold migration.")
    });
    let consolidation = finding(facts.items(|_, m| none(m.traits.consolidation_needed)), || {
        Condition::new(types::VM_CONSOLIDATION_NEEDED, Category::Warn, "The disks of some VMs need consolidation.")
            .reason(reasons::CONSOLIDATION_NEEDED)
    });
    [untracked, consolidation].into_iter().flatten().collect()
}
