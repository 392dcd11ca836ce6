//! Whether the name templates give valid names, for every disk and NIC of every VM, and whether instance types exist.
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
/// The check of instance types.
pub const INSTANCE_TYPES: Check = Check { conditions: &[types::NOT_VALID], run: instance_types };

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
    let plan = &facts.plan.options;
    let mut wrong: Vec<String> = [
        other("volume", plan.volume_name_template.as_deref()),
        other("network", plan.network_name_template.as_deref()),
    ]
    .into_iter()
    .flatten()
    .collect();
    wrong.extend(facts.items(|vm, _| {
        other("volume", vm.spec.volume_name_template.as_deref())
            .or_else(|| other("network", vm.spec.network_name_template.as_deref()))
    }));
    let condition = finding(wrong, || {
        Condition::new(types::NOT_VALID, Category::Critical, "A name template of the plan does not give valid names.")
            .reason(reasons::NOT_VALID)
    });
    condition.into_iter().collect()
}

/// What is wrong with a template for names of volumes or networks.
fn other(what: &str, text: Option<&str>) -> Option<String> {
    let text = text.filter(|text| !text.trim().is_empty())?;
    let network = NetworkDestination::Multus { namespace: "namespace".into(), name: "network".into() };
    let data = if what == "volume" { volume_name_data("claim", 1) } else { network_name_data(&network, 1) };
    let why = match template::render(text, &data) {
        Ok(name) => label_error(name.trim()).map(|why| format!("gives {:?}: {why}", name.trim()))?,
        Err(error) => error.to_string(),
    };
    Some(format!("{what} name template {text:?} {why}"))
}

/// Instance types that VMs name and the target does not have.
fn instance_types(facts: &Facts<'_>) -> Vec<Condition> {
    let Some(known) = &facts.plan.instance_types else { return Vec::new() };
    let missing = facts.items(|vm, _| {
        let wanted = vm.spec.instance_type.as_ref().filter(|wanted| !known.contains_key(*wanted))?;
        Some(format!("instance type {wanted:?} is neither in the target namespace nor in the cluster"))
    });
    let condition = finding(missing, || {
        Condition::new(types::NOT_VALID, Category::Critical, "An instance type was not found.")
            .reason(reasons::NOT_VALID)
    });
    condition.into_iter().collect()
}
