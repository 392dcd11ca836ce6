//! Whether each entry of the plan names one VM, and no VM twice.
use std::collections::BTreeMap;

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, Found, finding};

/// The check.
pub const CHECK: Check =
    Check { conditions: &[types::VM_REF_NOT_VALID, types::VM_NOT_FOUND, types::DUPLICATE_VM], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let critical =
        |type_: &str, reason: &str, message: &str| Condition::new(type_, Category::Critical, message).reason(reason);
    let (mut not_set, mut missing, mut ambiguous) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, vm) in facts.vms.iter().enumerate() {
        match vm.found {
            Found::Machine(machine) => *ids.entry(&machine.id).or_default() += 1,
            Found::NotSet => not_set.push(format!("entry {}", at + 1)),
            // a VM that was migrated may be gone from the source
            Found::Missing if vm.succeeded => {}
            Found::Missing => missing.push(vm.display()),
            Found::Ambiguous => {
                ambiguous.push(format!("{}: the name stands for several VMs, use the id", vm.display()))
            }
        }
    }
    let twice = facts.vms.iter().filter(|vm| match vm.found {
        Found::Machine(machine) => ids.get(machine.id.as_str()).is_some_and(|count| *count > 1),
        Found::NotSet | Found::Missing | Found::Ambiguous => false,
    });
    let mut twice: Vec<_> = twice.map(|vm| format!("{}: is in the plan more than once", vm.display())).collect();
    twice.dedup();
    let reason = if twice.is_empty() { reasons::AMBIGUOUS } else { reasons::NOT_UNIQUE };
    twice.extend(ambiguous);
    [
        finding(not_set, || {
            critical(types::VM_REF_NOT_VALID, reasons::NOT_SET, "Either `ref.id` or `ref.name` must be set.")
        }),
        finding(missing, || {
            critical(types::VM_NOT_FOUND, reasons::NOT_FOUND, "VM not found.")
                .suggestion("Look the VM up in the provider's inventory.")
        }),
        finding(twice, || {
            critical(types::DUPLICATE_VM, reason, "Each VM of a plan must be named once and without doubt.")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
