//! What the validation rules found about the VMs.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};

/// Concern about an appliance whose exporter is none of those known to work.
const EXPORT_SOURCE: &str = "ova.source.unsupported";

/// The check.
pub const CHECK: Check =
    Check { conditions: &[types::VM_CRITICAL_CONCERNS, types::UNSUPPORTED_OVF_EXPORT_SOURCE], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let critical = facts
        .machines()
        .flat_map(|(vm, machine)| machine.concerns.iter().map(move |concern| (vm, concern)))
        .filter(|(_, concern)| concern.category == "Critical")
        .map(|(vm, concern)| format!("{} ({})", vm.display(), concern.label))
        .collect();
    let export = facts.items(|_, machine| {
        let known = machine.concerns.iter().any(|c| c.id == EXPORT_SOURCE) || machine.traits.unsupported_export;
        known.then(String::new)
    });
    [
        finding(critical, || {
            Condition::new(
                types::VM_CRITICAL_CONCERNS,
                Category::Critical,
                "VMs with critical concerns cannot be migrated.",
            )
            .reason(reasons::NOT_VALID)
            .suggestion("Read the VM's concerns in the inventory.")
        }),
        finding(export, || {
            Condition::new(
                types::UNSUPPORTED_OVF_EXPORT_SOURCE,
                Category::Warn,
                "The OVA may not be supported: it was not exported by VMware.",
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
