//! Whether encrypted disks can be opened the way the plan says.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};

/// The check.
pub const CHECK: Check = Check { conditions: &[types::LUKS_AND_CLEVIS_INCOMPATIBILITY, types::NOT_VALID], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let both = facts.items(|vm, _| (vm.spec.luks_secret.is_some() && vm.spec.nbde_clevis).then(String::new));
    let impossible = if facts.plan.source.luks {
        Vec::new()
    } else {
        facts.items(|vm, _| (vm.spec.luks_secret.is_some() || vm.spec.nbde_clevis).then(String::new))
    };
    [
        finding(both, || {
            Condition::new(
                types::LUKS_AND_CLEVIS_INCOMPATIBILITY,
                Category::Warn,
                "Both LUKS keys and Clevis are set; Clevis is used.",
            )
            .reason(reasons::NOT_VALID)
        }),
        finding(impossible, || {
            Condition::new(
                types::NOT_VALID,
                Category::Critical,
                "Encrypted disks of the source provider cannot be migrated.",
            )
            .reason(reasons::NOT_VALID)
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
