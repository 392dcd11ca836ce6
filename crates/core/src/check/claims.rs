//! Whether volumes on the target are there, or are in the way.
use std::collections::BTreeMap;

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::build::pvc;
use crate::names::target_name;
use crate::plan::world::MigrationKind;

/// The check.
pub const CHECK: Check = Check { conditions: &[types::MISSING_PVC_FOR_ONLY_CONVERSION, types::PVC_NAME_CONFLICT], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    if facts.plan.kind == MigrationKind::Conversion { missing(facts) } else { conflicts(facts) }
}

/// A conversion needs a volume for each disk, filled by somebody else.
fn missing(facts: &Facts<'_>) -> Vec<Condition> {
    let items = facts.items(|vm, machine| {
        let of_vm = |claim: &&super::TargetClaim| {
            !claim.deleting && claim.vm_id == vm.spec.id && claim.vm_uuid.eq_ignore_ascii_case(&machine.uuid)
        };
        let (found, wanted) = (facts.target_claims.iter().filter(of_vm).count(), machine.disks.len());
        (found != wanted).then(|| format!("{found} claims with its labels, {wanted} disks"))
    });
    let condition = finding(items, || {
        Condition::new(
            types::MISSING_PVC_FOR_ONLY_CONVERSION,
            Category::Critical,
            "A conversion needs one claim in the target namespace for each disk of a VM.",
        )
        .reason(reasons::NOT_VALID)
        .suggestion("Label the claims of each VM with vmID=<id> and vmUUID=<BIOS UUID>.")
    });
    condition.into_iter().collect()
}

/// Names that a template fixes may be the same for two disks, or somebody else's already.
fn conflicts(facts: &Facts<'_>) -> Vec<Condition> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (vm, machine) in facts.machines() {
        let target = target_name(vm.spec, None);
        for (index, disk) in machine.disks.iter().enumerate() {
            let name = pvc::name(facts.plan, vm.spec, machine, &target, index);
            let user = users.entry(name).or_default();
            let entry = format!("{} {}", vm.display(), disk.key);
            // a VM that is named twice is a finding of its own
            if !user.contains(&entry) {
                user.push(entry);
            }
        }
    }
    let mut items = Vec::new();
    for (name, of_name) in users {
        if of_name.len() > 1 {
            items.push(format!("{name}: {}", of_name.join(", ")));
        }
        let foreign = |claim: &&super::TargetClaim| claim.name == name && claim.plan_uid != facts.plan.uid;
        if facts.target_claims.iter().any(|claim| foreign(&claim)) {
            items.push(format!("{name} exists in namespace {}", facts.plan.target_namespace));
        }
    }
    let condition = finding(items, || {
        Condition::new(
            types::PVC_NAME_CONFLICT,
            Category::Critical,
            "Names of volumes are used twice, or by a volume that is not of this plan.",
        )
        .reason(reasons::NOT_UNIQUE)
        .suggestion("Use {{.VmName}} and {{.DiskIndex}} in pvcNameTemplate, or set pvcNameTemplateUseGenerateName.")
    });
    condition.into_iter().collect()
}
