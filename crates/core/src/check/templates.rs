//! Whether the name templates give valid names, for every disk and NIC of every VM.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::build::pvc::name_data;
use crate::names::{label_error, target_name};
use crate::template;

/// The check.
pub const CHECK: Check = Check { conditions: &[types::NOT_VALID], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let wrong = facts.items(|vm, machine| {
        let templates = [&vm.spec.pvc_name_template, &facts.plan.options.pvc_name_template];
        let text = templates.into_iter().flatten().find(|t| !t.trim().is_empty())?;
        let target = target_name(vm.spec, None);
        (0..machine.disks.len().max(1)).find_map(|index| {
            let data = name_data(&facts.plan.name, vm.spec, &target, index);
            let name = match template::render(text, &data) {
                Ok(name) => name,
                Err(error) => return Some(error.to_string()),
            };
            let name = name.trim().trim_end_matches('-');
            label_error(name).map(|why| format!("{text:?} gives {name:?}: {why}"))
        })
    });
    let condition = finding(wrong, || {
        Condition::new(types::NOT_VALID, Category::Critical, "A PVC name template does not give valid names.")
            .reason(reasons::NOT_VALID)
    });
    condition.into_iter().collect()
}
