//! Whether the sizes of all disks are known.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};

/// The check.
pub const CHECK: Check = Check { conditions: &[types::INVALID_DISK_SIZES], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let wrong = facts.items(|_, machine| {
        let names: Vec<_> = machine.disks.iter().filter(|d| d.capacity == 0).map(|d| d.key.clone()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    });
    let condition = finding(wrong, || {
        Condition::new(
            types::INVALID_DISK_SIZES,
            Category::Critical,
            "The size of some disks is not known or not positive.",
        )
        .reason(reasons::NOT_VALID)
    });
    condition.into_iter().collect()
}
