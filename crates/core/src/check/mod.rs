//! Is a plan sound? What it asks of its VMs is checked here, on plain facts; what it names in the cluster (providers,
//! maps, hooks, accounts) the controller checks, because that means looking things up.
//!
//! One file per topic; each check is a line in [`CHECKS`]. A check returns conditions; two checks never use the same
//! type, since a condition list is keyed by type and the later would hide the earlier ([`NOT_VALID`] is the one type that
//! upstream uses for several findings: its findings are merged into one). The type of [`shared_disks`] has the VM's id
//! behind it, as upstream's has.
//!
//! [`NOT_VALID`]: forklift_api::condition::types::NOT_VALID
pub mod claims;
pub mod concerns;
pub mod disks;
pub mod guest;
pub mod identity;
pub mod luks;
pub mod migration_type;
pub mod network;
pub mod references;
pub mod shared_disks;
pub mod snapshots;
pub mod storage;
pub mod target_names;
pub mod templates;
pub mod udn;

use forklift_api::Condition;

use crate::machine::Machine;
use crate::plan::world::{PlanFacts, PlanVm};

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The plan, resolved.
    pub plan: &'a PlanFacts,
    /// Its VMs.
    pub vms: &'a [VmFacts<'a>],
    /// VMs of the target cluster, of any namespace.
    pub target_vms: &'a [TargetVm],
    /// Claims of the target namespace.
    pub target_claims: &'a [TargetClaim],
}

/// A VM of the plan.
#[derive(Clone, Copy, Debug)]
pub struct VmFacts<'a> {
    /// Its entry, with id and name as the inventory resolved them.
    pub spec: &'a PlanVm,
    /// What the reference led to.
    pub found: Found<'a>,
    /// Its migration succeeded earlier: only its reference is checked.
    pub succeeded: bool,
    /// It is in the plan's status already: what bears its name on the target may be ours.
    pub started: bool,
}

/// What a VM's reference led to.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// The VM.
    Machine(&'a Machine),
    /// Neither id nor name is given.
    NotSet,
    /// There is no such VM.
    Missing,
    /// The name stands for several VMs.
    Ambiguous,
}

/// A VM of the target cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetVm {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// MAC addresses of its interfaces.
    pub macs: Vec<String>,
    /// Label `plan`, when it has one.
    pub plan_uid: String,
    /// Label `vmID`, when it has one.
    pub vm_id: String,
}

/// A claim of the target namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetClaim {
    /// Name.
    pub name: String,
    /// Label `plan`, when it has one.
    pub plan_uid: String,
    /// Label `vmID`, when it has one.
    pub vm_id: String,
    /// Label `vmUUID`, when it has one.
    pub vm_uuid: String,
    /// Annotation `disk-source`: the key of the disk that it holds.
    pub disk_source: String,
    /// Label `shareable`: it holds a disk that several VMs use.
    pub shareable: bool,
    /// Its deletion has begun.
    pub deleting: bool,
    /// The migration that made it has not succeeded: the disk may not be whole.
    pub unfinished: bool,
}

impl VmFacts<'_> {
    /// Returns how messages show the VM.
    pub fn display(&self) -> String {
        match (self.spec.id.as_str(), self.spec.name.as_str()) {
            ("", "") => "(no id, no name)".into(),
            ("", name) => name.into(),
            (id, "") => id.into(),
            (id, name) => format!("{name} ({id})"),
        }
    }
}

impl<'a> Facts<'a> {
    /// Returns the VMs that are still to be migrated and were found.
    pub fn machines(&self) -> impl Iterator<Item = (&'a VmFacts<'a>, &'a Machine)> {
        self.vms.iter().filter(|vm| !vm.succeeded).filter_map(|vm| match vm.found {
            Found::Machine(machine) => Some((vm, machine)),
            Found::NotSet | Found::Missing | Found::Ambiguous => None,
        })
    }

    /// Returns the items of those VMs for which `finding` says something.
    pub fn items(&self, finding: impl Fn(&VmFacts<'a>, &'a Machine) -> Option<String>) -> Vec<String> {
        self.machines()
            .filter_map(|(vm, machine)| {
                let text = finding(vm, machine)?;
                Some(if text.is_empty() { vm.display() } else { format!("{}: {text}", vm.display()) })
            })
            .collect()
    }
}

/// A check of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Condition types it can give.
    pub conditions: &'static [&'static str],
    /// Gives the conditions that hold.
    pub run: fn(&Facts<'_>) -> Vec<Condition>,
}

/// Every check, in the order in which findings are shown.
pub const CHECKS: &[Check] = &[
    migration_type::CHECK,
    references::CHECK,
    target_names::CHECK,
    network::CHECK,
    storage::CHECK,
    disks::CHECK,
    luks::CHECK,
    concerns::CHECK,
    templates::CHECK,
    templates::INSTANCE_TYPES,
    claims::CHECK,
    shared_disks::CHECK,
    snapshots::CHECK,
    guest::CHECK,
    identity::CHECK,
    udn::CHECK,
];

/// Runs all checks. At most one condition of each type is returned.
pub fn check(facts: &Facts<'_>) -> Vec<Condition> {
    let mut found: Vec<Condition> = Vec::new();
    for condition in CHECKS.iter().flat_map(|check| (check.run)(facts)) {
        match found.iter_mut().find(|c| c.type_ == condition.type_) {
            Some(first) => {
                first.message = format!("{} {}", first.message, condition.message);
                first.items.extend(condition.items);
            }
            None => found.push(condition),
        }
    }
    found
}

/// A condition with items, when there are any.
fn finding(items: Vec<String>, condition: impl FnOnce() -> Condition) -> Option<Condition> {
    if items.is_empty() { None } else { Some(condition().items(items)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_checks_share_a_type() {
        let mut seen = BTreeSet::new();
        for kind in CHECKS.iter().flat_map(|check| check.conditions) {
            let merged = *kind == forklift_api::condition::types::NOT_VALID;
            assert!(seen.insert(kind) || merged, "{kind}");
            assert!(forklift_api::condition::types::ALL.contains(kind), "{kind}");
        }
    }
}
