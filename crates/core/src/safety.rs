//! What must never be done, whatever a step says: every effect passes through [`permit`] before it is applied, every
//! decided outcome through [`permit_outcome`] before it is stored.
//!
//! 1. Nothing is deleted that we did not create: it was seen in this very look, with our labels and its UID.
//! 2. Volumes and VMs of this run are deleted only when the user canceled.
//! 3. Nothing is powered off or on whose identity was not read from the source in this step.
//! 4. The source is never started while the target exists, the target is never created while the source runs.
//! 5. No VM on bytes that were not verified, or on a guest whose conversion did not succeed; no success without both.
//! 6. No volume for a guest that is to be inspected before the copy, and was not, or has a concern that forbids it.
use std::collections::BTreeMap;

use forklift_api::labels;
use forklift_api::worker::Verify;

use crate::machine::{Machine, PowerState, VmIdentity};
use crate::names;
use crate::plan::effect::{Effect, ObjectRef, TargetObject};
use crate::plan::itinerary::Facets;
use crate::plan::pipeline::StepName;
use crate::plan::state::{Finding, Outcome, VmState};
use crate::plan::step::{is_converted, is_inspected, is_verified};
use crate::plan::world::{MigrationKind, Observed, World};

/// A rule that an effect or a state would break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An object without our labels would be created.
    #[error("{0} would be created without the labels that say whose it is")]
    Unlabelled(String),
    /// An object that is not known to be ours would be deleted or changed.
    #[error("{0} is not known to be ours")]
    NotOurs(String),
    /// A volume or VM of this run would be deleted although the run was not canceled.
    #[error("{0} would be deleted although the migration was not canceled")]
    Kept(String),
    /// The identity of the source VM was not read in this step, or is another one.
    #[error("identity of source VM {0} was not confirmed in this step")]
    Identity(String),
    /// Something would be done to the source that does not fit the state of the migration.
    #[error("source VM {0} would be switched at the wrong moment")]
    WrongMoment(String),
    /// Both sides could run.
    #[error("source and target of {0} could run at the same time")]
    BothSides(String),
    /// A snapshot that is not ours.
    #[error("snapshot {0} is not of this migration")]
    Snapshot(String),
    /// Bytes were not verified.
    #[error("the disks of {0} are not verified")]
    NotVerified(String),
    /// The guest was not converted.
    #[error("the guest of {0} is not converted")]
    NotConverted(String),
    /// The guest was not inspected, or must not be migrated.
    #[error("the guest of {0} was not inspected, or must not be migrated as it is")]
    NotInspected(String),
}

/// Decides whether an effect may be applied. `state` is the state the step was made from, `world` what it saw.
pub fn permit(effect: &Effect, state: &VmState, world: &World<'_>) -> Result<(), Violation> {
    match effect {
        Effect::Ensure(object) => permit_creation(object, state, world),
        Effect::CopySecret { to, .. } | Effect::CopyConfigMap { to, .. } => permit_creation(to, state, world),
        Effect::Adopt { object, owner } => seen(object, world)
            .and(seen(owner, world))
            .map(|_| ())
            .ok_or_else(|| Violation::NotOurs(object.to_string())),
        Effect::Delete(object) => permit_deletion(object, state, world),
        Effect::PowerOff(vm) => {
            confirmed(vm, world)?;
            let wanted = state.outcome.is_none() && world.canceled.is_none();
            if wanted { Ok(()) } else { Err(Violation::WrongMoment(vm.name.clone())) }
        }
        Effect::PowerOn(vm) => {
            confirmed(vm, world)?;
            match state.outcome {
                Some(Outcome::Failed | Outcome::Canceled) => {}
                Some(Outcome::Succeeded) | None => return Err(Violation::WrongMoment(vm.name.clone())),
            }
            if state.restore_power_state != Some(PowerState::On) {
                return Err(Violation::WrongMoment(vm.name.clone()));
            }
            let target = world
                .target
                .labelled
                .iter()
                .any(|o| o.object.kind == "VirtualMachine" && o.is_of(world.plan, world.vm));
            let by_name = world.target.vm.as_ref().is_some_and(|v| v.seen.is_of(world.plan, world.vm));
            if target || by_name { Err(Violation::BothSides(vm.name.clone())) } else { Ok(()) }
        }
        Effect::EnsureSnapshot { vm, name } => {
            confirmed(vm, world)?;
            ours(name, world)?;
            if state.outcome.is_none() { Ok(()) } else { Err(Violation::WrongMoment(vm.name.clone())) }
        }
        Effect::RemoveSnapshot { vm, name } => confirmed(vm, world).and_then(|()| ours(name, world)),
        Effect::Event { .. } => Ok(()),
    }
}

fn ours(snapshot: &str, world: &World<'_>) -> Result<(), Violation> {
    let prefix = names::snapshot_prefix(world.plan);
    if snapshot.starts_with(&prefix) { Ok(()) } else { Err(Violation::Snapshot(snapshot.to_owned())) }
}

/// The VM is the one that was planned, and that is there under its id as read for this step.
fn confirmed(vm: &VmIdentity, world: &World<'_>) -> Result<(), Violation> {
    let planned = world.machine.map(Machine::identity);
    let read = world.source.identity.as_ref().filter(|_| world.source.unreachable.is_none());
    if planned.as_ref() == Some(vm) && read == Some(vm) { Ok(()) } else { Err(Violation::Identity(vm.name.clone())) }
}

/// Everything that was seen with labels, by UID.
fn seen<'w>(object: &ObjectRef, world: &World<'w>) -> Option<&'w Observed> {
    let target = world.target;
    let all = target
        .labelled
        .iter()
        .chain(target.pvcs.iter().map(|p| &p.seen))
        .chain(target.imports.iter().map(|i| &i.seen))
        .chain(target.hooks.iter().map(|h| &h.seen))
        .chain(target.conversion.iter().map(|c| &c.seen))
        .chain(target.inspection.iter().map(|c| &c.seen))
        .chain(target.vm.iter().map(|v| &v.seen));
    let same = |o: &&Observed| {
        !object.uid.is_empty()
            && o.object.uid == object.uid
            && o.object.kind == object.kind
            && o.object.name == object.name
    };
    all.filter(same).find(|o| o.is_of(world.plan, world.vm))
}

fn permit_deletion(object: &ObjectRef, state: &VmState, world: &World<'_>) -> Result<(), Violation> {
    let Some(seen) = seen(object, world) else { return Err(Violation::NotOurs(object.to_string())) };
    let precious =
        matches!(object.kind.as_str(), "VirtualMachine" | "PersistentVolumeClaim" | "PersistentVolume" | "Namespace");
    if !precious {
        return Ok(());
    }
    let leftover = !seen.is_current(world.plan) && state.outcome.is_none();
    match state.outcome {
        Some(Outcome::Canceled) => Ok(()),
        None if leftover => Ok(()),
        Some(Outcome::Succeeded | Outcome::Failed) | None => Err(Violation::Kept(object.to_string())),
    }
}

fn permit_creation(object: &TargetObject, state: &VmState, world: &World<'_>) -> Result<(), Violation> {
    let name = || format!("{} {}", object.kind, object.name);
    if object.kind == "Namespace" {
        return Ok(());
    }
    let labelled = object.label(labels::PLAN) == Some(&world.plan.uid)
        && object.label(labels::MIGRATION) == Some(&world.plan.migration_uid)
        && (object.label(labels::VM_ID) == Some(&world.vm.id) || object.label(labels::OVA).is_some());
    if !labelled || world.plan.uid.is_empty() || world.vm.id.is_empty() {
        return Err(Violation::Unlabelled(name()));
    }
    if state.outcome.is_some() {
        return Err(Violation::WrongMoment(world.vm.name.clone()));
    }
    if object.kind == "PersistentVolumeClaim" && Facets::of(world.plan, world.vm, world.machine).preflight {
        let name = StepName::PreflightInspection.as_str();
        let inspected = state.pipeline.iter().any(|step| step.task.name == name && is_inspected(step));
        if !inspected || state.findings.iter().any(Finding::blocks) {
            return Err(Violation::NotInspected(world.vm.name.clone()));
        }
    }
    if object.kind != "VirtualMachine" {
        return Ok(());
    }
    if world.plan.source.power {
        let read = world.source.identity == world.machine.map(Machine::identity) && world.source.unreachable.is_none();
        if !read || world.source.power != PowerState::Off {
            return Err(Violation::BothSides(world.vm.name.clone()));
        }
    }
    permit_success(state, world)
}

/// Decides whether a state may be stored: no success without verified bytes and a converted guest.
pub fn permit_outcome(next: &VmState, world: &World<'_>) -> Result<(), Violation> {
    match next.outcome {
        Some(Outcome::Succeeded) => permit_success(next, world),
        Some(Outcome::Failed | Outcome::Canceled) | None => Ok(()),
    }
}

fn permit_success(state: &VmState, world: &World<'_>) -> Result<(), Violation> {
    let plan = world.plan;
    let elsewhere = plan.resume_conversion || plan.kind == MigrationKind::Conversion;
    let moves = match plan.kind {
        MigrationKind::Warm => StepName::Cutover,
        MigrationKind::Cold | MigrationKind::Live | MigrationKind::Conversion => StepName::DiskTransfer,
    };
    let step = |name: StepName| state.pipeline.iter().find(|s| s.task.name == name.as_str());
    if !elsewhere {
        let verified = step(moves).is_some_and(|s| s.tasks.iter().all(|t| is_verified(t, plan.verify)));
        if !verified && plan.verify != Verify::None {
            return Err(Violation::NotVerified(world.vm.name.clone()));
        }
        // copied without read-back by the user's wish: still every disk has to be done
        if !verified || !state.disks_copied {
            return Err(Violation::NotVerified(world.vm.name.clone()));
        }
    }
    let facets = Facets::of(plan, world.vm, world.machine);
    if facets.conversion && !step(StepName::ImageConversion).is_some_and(is_converted) {
        return Err(Violation::NotConverted(world.vm.name.clone()));
    }
    Ok(())
}

/// Returns whether an object that exists is what an [`Effect::Ensure`] wants: of the same plan, migration and VM, as
/// far as the manifest says so.
pub fn is_same(wanted: &TargetObject, labels: &BTreeMap<String, String>) -> bool {
    [labels::PLAN, labels::MIGRATION, labels::VM_ID]
        .into_iter()
        .all(|key| wanted.label(key).is_none_or(|value| labels.get(key).is_some_and(|has| has == value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_exists_must_be_of_the_same_run() {
        let labels = |migration: &str| {
            BTreeMap::from([
                ("plan".to_owned(), "p".to_owned()),
                ("migration".to_owned(), migration.to_owned()),
                ("vmID".to_owned(), "v".to_owned()),
            ])
        };
        let wanted = TargetObject::new(json!({"kind": "Job", "metadata": {"name": "j", "labels": labels("m")}}));
        assert!(is_same(&wanted, &labels("m")));
        assert!(!is_same(&wanted, &labels("other")));
        assert!(!is_same(&wanted, &BTreeMap::new()));
        assert!(is_same(&TargetObject::new(json!({"kind": "Namespace"})), &BTreeMap::new()));
    }
}
