//! Whether every storage is mapped.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::mapping::unmapped_storage;
use crate::plan::world::MigrationKind;

/// The check.
pub const CHECK: Check = Check { conditions: &[types::VM_STORAGE_NOT_MAPPED], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    if facts.plan.kind == MigrationKind::Conversion {
        return Vec::new();
    }
    let unmapped = facts.items(|_, machine| {
        let names: Vec<_> =
            unmapped_storage(machine, &facts.plan.storage).iter().map(|s| s.display().to_owned()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    });
    let condition = finding(unmapped, || {
        Condition::new(types::VM_STORAGE_NOT_MAPPED, Category::Critical, "VM has unmapped storage.")
            .reason(reasons::NOT_VALID)
            .suggestion("Add the storage to the storage map.")
    });
    condition.into_iter().collect()
}
