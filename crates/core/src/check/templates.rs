//! Whether the name templates give valid names, for every disk and NIC of every VM.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::build::pvc::name_data;
use crate::build::virtual_machine::{network_name_data, volume_name_data};
use crate::names::{label_error, target_name};
use crate::plan::world::NetworkDestination;
use crate::template;

/// The check.
pub const CHECK: Check = Check { conditions: &[types::NOT_VALID], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let wrong = facts.items(|vm, machine| {
        let templates = [&vm.spec.pvc_name_template, &facts.plan.options.pvc_name_template];
        let text = templates.into_iter().flatten().find(|t| !t.trim().is_empty())?;
        let target = target_name(vm.spec, None);
        (0..machine.disks.len().max(1)).find_map(|index| {
            let data = name_data(&facts.plan.name, vm.spec, machine, &target, index);
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
    if condition.is_some() {
        return condition.into_iter().collect();
    }
    let options = &facts.plan.options;
    let network = NetworkDestination::Multus { namespace: "namespace".into(), name: "network".into() };
    let others = [
        ("volume", &options.volume_name_template, volume_name_data("claim", 1)),
        ("network", &options.network_name_template, network_name_data(&network, 1)),
    ];
    let wrong = others.into_iter().filter_map(|(what, text, data)| {
        let text = text.as_deref().filter(|text| !text.trim().is_empty())?;
        let why = match template::render(text, &data) {
            Ok(name) => label_error(name.trim()).map(|why| format!("gives {:?}: {why}", name.trim()))?,
            Err(error) => error.to_string(),
        };
        Some(format!("{what} name template {text:?} {why}"))
    });
    let condition = finding(wrong.collect(), || {
        Condition::new(types::NOT_VALID, Category::Critical, "A name template of the plan does not give valid names.")
            .reason(reasons::NOT_VALID)
    });
    condition.into_iter().collect()
}
