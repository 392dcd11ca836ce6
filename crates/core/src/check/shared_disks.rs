//! Disks that several VMs share.
//!
//! ```text
//! one plan   the VM that migrates a disk copies it; the same disk in a second such VM is copied again: said
//! two plans  first   migrateSharedDisks: true   the disks are copied once
//!            second  migrateSharedDisks: false  the claims of the first are attached; missing ones are said, and those
//!                                               whose copy is not done keep the plan waiting
//! ```
//! A VM copies all its shared disks or none of them. Where three VMs share disks in a ring, no choice of VMs copies each
//! disk once: then the finding says so and names what would be copied twice or not at all.
//!
//! While a VM that shares a disk runs, its copy would be torn: nothing begins before all of them are off. For the same
//! reason shared disks and warm migration exclude each other.
use std::collections::{BTreeMap, BTreeSet};

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, VmFacts};
use crate::machine::{Disk, Machine, PowerState};
use crate::plan::world::MigrationKind;

/// The check. Types have `-` and the VM's id behind them.
pub const CHECK: Check = Check { conditions: &[types::SHARED_DISKS, types::SHARED_WARN_DISKS], run };

/// VMs for which every choice is tried; more are not looked through.
const TRIED: usize = 16;

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let copies = copies(facts);
    facts
        .machines()
        .filter(|(_, machine)| machine.disks.iter().any(|disk| disk.shared))
        .filter_map(|(vm, machine)| one(facts, vm, machine, &copies))
        .collect()
}

/// Whether a VM takes its shared disks along.
fn takes(facts: &Facts<'_>, vm: &VmFacts<'_>) -> bool {
    vm.spec.migrate_shared_disks.unwrap_or(facts.plan.options.migrate_shared_disks)
}

/// The VMs that copy each shared disk.
fn copies(facts: &Facts<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let mut copies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (vm, machine) in facts.machines() {
        for disk in machine.disks.iter().filter(|disk| disk.shared) {
            let of_disk = copies.entry(disk.key.clone()).or_default();
            if takes(facts, vm) {
                of_disk.insert(vm.display());
            }
        }
    }
    copies
}

fn one(
    facts: &Facts<'_>,
    vm: &VmFacts<'_>,
    machine: &Machine,
    copies: &BTreeMap<String, BTreeSet<String>>,
) -> Option<Condition> {
    let severe = |reason: &str, message: String| {
        Condition::new(format!("{}-{}", types::SHARED_DISKS, machine.id), Category::Critical, message).reason(reason)
    };
    let said = |message: String, items: Vec<String>| {
        Condition::new(format!("{}-{}", types::SHARED_WARN_DISKS, machine.id), Category::Warn, message)
            .reason(reasons::NOT_VALID)
            .items(items)
    };
    let shared: Vec<&Disk> = machine.disks.iter().filter(|disk| disk.shared).collect();
    if facts.plan.kind == MigrationKind::Warm {
        let message = format!("{} shares disks, which cannot be migrated warm.", vm.display());
        return Some(
            severe(reasons::NOT_SUPPORTED, message)
                .suggestion("Migrate VMs with shared disks cold, in a plan of their own.")
                .items(shared.iter().map(|disk| disk.key.clone())),
        );
    }
    let running = running(facts, machine, &shared);
    if !running.is_empty() && facts.plan.kind == MigrationKind::Cold {
        let message = format!("VMs that share disks with {} run.", vm.display());
        return Some(severe(reasons::NOT_VALID, message).suggestion("Power them off.").items(running));
    }
    let claims = || facts.target_claims.iter().filter(|claim| claim.shareable && !claim.deleting);
    let held: BTreeSet<&str> =
        claims().filter(|claim| !claim.unfinished).map(|claim| claim.disk_source.as_str()).collect();
    let begun: BTreeSet<&str> = claims().map(|claim| claim.disk_source.as_str()).collect();
    let namespace = &facts.plan.target_namespace;
    if !takes(facts, vm) {
        let copied = |key: &str| copies.get(key).is_some_and(|by| !by.is_empty());
        let half = |key: &&String| begun.contains(key.as_str()) && !held.contains(key.as_str()) && !copied(key);
        let half: Vec<String> = shared.iter().map(|disk| &disk.key).filter(half).cloned().collect();
        if !half.is_empty() {
            let message = format!(
                "Shared disks of {} are not whole: the migration that copies them has not succeeded.",
                vm.display()
            );
            let suggestion = "Wait for that migration, or run it again: this plan becomes ready by itself.";
            return Some(severe(reasons::NOT_VALID, message).suggestion(suggestion).items(half));
        }
        let missing: Vec<String> = shared
            .iter()
            .map(|disk| &disk.key)
            .filter(|key| !held.contains(key.as_str()) && !copied(key))
            .cloned()
            .collect();
        if missing.is_empty() {
            return None;
        }
        let message = format!(
            "No claim in namespace {namespace} holds these shared disks: {} can be migrated, but they will not be attached.",
            vm.display()
        );
        return Some(said(message, missing).suggestion(advice(facts)));
    }
    let existing: Vec<String> =
        shared.iter().map(|disk| &disk.key).filter(|key| begun.contains(key.as_str())).cloned().collect();
    if !existing.is_empty() && !vm.started {
        let message =
            format!("Claims in namespace {namespace} hold these shared disks already: they will be copied again.");
        let suggestion = "Set migrateSharedDisks to false: the claims that exist are attached.";
        return Some(said(message, existing).suggestion(suggestion));
    }
    let twice: Vec<String> = shared
        .iter()
        .filter_map(|disk| {
            let by = copies.get(&disk.key).filter(|by| by.len() > 1)?;
            Some(format!(
                "{} will be copied {}x: {}",
                disk.key,
                by.len(),
                by.iter().cloned().collect::<Vec<_>>().join(", ")
            ))
        })
        .collect();
    if twice.is_empty() {
        return None;
    }
    Some(said("Shared disks will be copied by several VMs of the plan.".to_owned(), twice).suggestion(advice(facts)))
}

/// The VMs that hold a disk of this one and are not off; those of the plan as the plan sees them.
fn running(facts: &Facts<'_>, machine: &Machine, shared: &[&Disk]) -> Vec<String> {
    let off = |power: PowerState| power == PowerState::Off;
    let mut names = BTreeSet::new();
    if !off(machine.power) {
        names.insert(machine.name.clone());
    }
    names.extend(
        shared.iter().flat_map(|disk| &disk.users).filter(|user| !off(user.power)).map(|user| user.name.clone()),
    );
    let keys: BTreeSet<&str> = shared.iter().map(|disk| disk.key.as_str()).collect();
    let others = facts.machines().map(|(_, other)| other).filter(|other| {
        !off(other.power) && other.disks.iter().any(|disk| disk.shared && keys.contains(disk.key.as_str()))
    });
    names.extend(others.map(|other| other.name.clone()));
    names.into_iter().collect()
}

/// What to set so that each shared disk is copied once, if there is such a choice.
fn advice(facts: &Facts<'_>) -> String {
    let mut vms: Vec<(String, BTreeSet<&str>)> = Vec::new();
    for (vm, machine) in facts.machines() {
        let shared: BTreeSet<&str> =
            machine.disks.iter().filter(|disk| disk.shared).map(|disk| disk.key.as_str()).collect();
        if !shared.is_empty() && !vms.iter().any(|(name, _)| *name == vm.display()) {
            vms.push((vm.display(), shared));
        }
    }
    if vms.len() > TRIED {
        return "Let one VM of those that share a disk migrate it (migrateSharedDisks), the others not.".to_owned();
    }
    match once_each(&vms.iter().map(|(_, disks)| disks.clone()).collect::<Vec<_>>()) {
        Some(chosen) => {
            let names: Vec<&str> = chosen.iter().filter_map(|at| vms.get(*at)).map(|(name, _)| name.as_str()).collect();
            format!("Set migrateSharedDisks to true for {} and to false for the others.", names.join(", "))
        }
        None => {
            "The VMs share their disks in a ring: whichever of them migrate their shared disks, a disk is copied twice \
                 or not at all. Detach one of the disks from one of the VMs at the source, and attach it on the target."
                .to_owned()
        }
    }
}

/// Returns the fewest VMs whose disks together are all disks, each once; `None` when there is no such choice.
fn once_each(vms: &[BTreeSet<&str>]) -> Option<Vec<usize>> {
    let all: BTreeSet<&str> = vms.iter().flatten().copied().collect();
    let choices = (1u32..1 << vms.len().min(TRIED))
        .map(|bits| (0..vms.len()).filter(|at| bits & (1 << at) != 0).collect::<Vec<usize>>());
    let fits = |choice: &Vec<usize>| {
        let copied: Vec<&str> = choice.iter().flat_map(|at| vms[*at].iter().copied()).collect();
        copied.len() == all.len() && copied.iter().copied().collect::<BTreeSet<_>>() == all
    };
    choices.filter(fits).min_by_key(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(vms: &[&[&'static str]]) -> Option<Vec<usize>> {
        once_each(&vms.iter().map(|disks| disks.iter().copied().collect()).collect::<Vec<_>>())
    }

    #[test]
    fn a_choice_that_copies_each_disk_once() {
        assert_eq!(choice(&[&["a"], &["a"]]), Some(vec![0]));
        assert_eq!(choice(&[&["a"], &["a", "b"], &["b"]]), Some(vec![1]));
        assert_eq!(choice(&[&["a", "b"], &["b", "c"], &["c", "d"], &["d", "a"]]), Some(vec![0, 2]));
        assert_eq!(choice(&[&["a", "b"], &["b", "c"], &["c", "a"]]), None, "a ring of three");
    }
}
