//! Whether each VM gets a name of its own on the target.
use std::collections::{BTreeMap, BTreeSet};

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::names::{sanitised, subdomain_error, target_name};

/// The check.
pub const CHECK: Check = Check {
    conditions: &[
        types::TARGET_NAME_NOT_VALID,
        types::NOT_VALID,
        types::VM_ALREADY_EXISTS,
        types::DUPLICATE_TARGET_NAME,
    ],
    run,
};

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let wish = |name: &Option<String>| name.as_deref().map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned);
    let renamed = facts.items(|vm, machine| {
        let changes = wish(&vm.spec.target_name).is_none() && sanitised(&machine.name) != machine.name;
        changes.then(|| format!("becomes {}", target_name(vm.spec, None)))
    });
    let wrong = facts.items(|vm, _| {
        let name = wish(&vm.spec.target_name)?;
        subdomain_error(&name).map(|why| format!("targetName {name:?}: {why}"))
    });
    let taken = facts.items(|vm, _| {
        let name = target_name(vm.spec, None);
        let here = |t: &&super::TargetVm| t.namespace == facts.plan.target_namespace && t.name == name;
        let other = facts.target_vms.iter().find(here)?;
        let ours = other.plan_uid == facts.plan.uid && other.vm_id == vm.spec.id && !facts.plan.uid.is_empty();
        (!vm.started && !ours).then(|| format!("{name} exists in namespace {}", facts.plan.target_namespace))
    });
    // by VM: one that is named twice is a finding of its own
    let mut names: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (vm, machine) in facts.machines() {
        names.entry(target_name(vm.spec, None)).or_default().insert(&machine.id);
    }
    let same = facts.items(|vm, _| {
        let name = target_name(vm.spec, None);
        names.get(&name).is_some_and(|vms| vms.len() > 1).then_some(name)
    });
    let set_name = "Set targetName of the VM in the plan.";
    [
        finding(renamed, || {
            Condition::new(
                types::TARGET_NAME_NOT_VALID,
                Category::Warn,
                "The names of some VMs are not valid on the target; they will be renamed.",
            )
            .reason(reasons::NOT_VALID)
            .suggestion(set_name)
        }),
        finding(wrong, || {
            Condition::new(types::NOT_VALID, Category::Critical, "A targetName is not valid.")
                .reason(reasons::NOT_VALID)
        }),
        finding(taken, || {
            Condition::new(types::VM_ALREADY_EXISTS, Category::Critical, "Target VM already exists.")
                .reason(reasons::NOT_UNIQUE)
                .suggestion(set_name)
        }),
        finding(same, || {
            Condition::new(
                types::DUPLICATE_TARGET_NAME,
                Category::Critical,
                "Several VMs of the plan would get the same name.",
            )
            .reason(reasons::NOT_UNIQUE)
            .suggestion(set_name)
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
