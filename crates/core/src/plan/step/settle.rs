//! The end of a VM's migration, whatever the outcome: what is ours and not needed goes, the source is put back.
//!
//! | outcome   | Jobs, hooks' ConfigMaps, Secrets | Conversion              | target VM, PVCs              | source |
//! |-----------|----------------------------------|-------------------------|------------------------------|--------|
//! | Succeeded | removed                          | removed if the plan says | kept                         | stays off |
//! | Failed    | Secrets, and those that still run, are removed | removed if it still runs | kept for a look; the next run removes them | snapshots removed, switched on again unless the target exists |
//! | Canceled  | removed                          | removed                 | removed (`deleteVmOnFailMigration`) | snapshots removed, switched on again unless the target is kept |
use super::{CLEANUP_INCOMPLETE, MAX_CLEANUP_RETRIES, Turn, wait};
use crate::machine::{Machine, PowerState};
use crate::plan::effect::Effect;
use crate::plan::phase::Phase;
use crate::plan::pipeline;
use crate::plan::state::{Outcome, VmError, VmState, WaitCode, stamp};
use crate::plan::world::Observed;
use crate::plan::{Recheck, Transition};

/// How long after the end was decided objects may still turn up.
const GRACE_SECONDS: i64 = 5;

/// Puts things in order, one after the other, then completes.
pub(super) fn settle(turn: &Turn<'_>) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let Some(outcome) = state.outcome else { return turn.over() };
    let goes: Vec<_> =
        world.target.labelled.iter().filter(|o| o.is_of(world.plan, world.vm) && must_go(turn, outcome, o)).collect();
    if let Some(first) = goes.first() {
        let effects: Vec<_> = goes.iter().filter(|o| !o.deleting).map(|o| Effect::Delete(o.object.clone())).collect();
        let message = format!("{} to be gone ({} in all)", first.object, goes.len());
        return go_on(turn, effects, WaitCode::CleanUp, message);
    }
    // what was created just before the end, perhaps by a controller that died, may not be seen yet
    let since = state.waiting_on.as_ref().map_or(0, |w| w.since.as_second());
    if outcome != Outcome::Succeeded && world.now.as_second().saturating_sub(since) < GRACE_SECONDS {
        return go_on(
            turn,
            Vec::new(),
            WaitCode::CleanUp,
            "a moment, for objects that were just created to be seen".into(),
        );
    }
    if outcome == Outcome::Succeeded && !world.plan.source.warm {
        return complete(turn, state.clone(), None);
    }
    if let Some(why) = world.source.unreachable.as_ref().filter(|_| world.plan.source.power || world.plan.source.warm) {
        // counted: a provider that is gone for good must not keep the plan from ending
        let mut next = state.clone();
        next.retries = next.retries.saturating_add(1);
        let message = format!("the source does not answer: {why}");
        if next.retries > MAX_CLEANUP_RETRIES {
            return complete(turn, next, Some(message));
        }
        wait(&mut next, WaitCode::Provider, message, world.now);
        return Transition { next, effects: Vec::new(), recheck: Recheck::After(5) };
    }
    if world.plan.source.warm && !world.source.snapshots.is_empty() {
        return match identity(turn) {
            Ok(vm) => {
                let removal =
                    |s: &crate::source::SnapshotFact| Effect::RemoveSnapshot { vm: vm.clone(), name: s.name.clone() };
                let effects = world.source.snapshots.iter().map(removal).collect();
                go_on(turn, effects, WaitCode::SnapshotRemoval, "our snapshots in the source to be gone".into())
            }
            Err(why) => complete(turn, state.clone(), Some(format!("snapshots were left in the source: {why}"))),
        };
    }
    restore_power(turn, outcome)
}

fn must_go(turn: &Turn<'_>, outcome: Outcome, seen: &Observed) -> bool {
    let plan = turn.world.plan;
    let kind = seen.object.kind.as_str();
    let disk_or_vm = matches!(kind, "VirtualMachine" | "PersistentVolumeClaim" | "DataVolume");
    match outcome {
        Outcome::Succeeded if disk_or_vm => false,
        Outcome::Succeeded if kind == "Conversion" => plan.options.delete_conversion,
        // the conversion's pod goes with it
        Outcome::Succeeded if kind == "Pod" => plan.options.delete_conversion,
        Outcome::Succeeded => true,
        // copies of credentials are not left where others may read them
        Outcome::Failed => kind == "Secret" || (seen.active && matches!(kind, "Job" | "Conversion")),
        Outcome::Canceled if disk_or_vm => {
            let deletes = plan.options.delete_vm_on_failure || turn.world.vm.delete_vm_on_failure;
            // the disks of a resumed conversion were copied by an earlier run and can be used again
            let borrowed = plan.resume_conversion && kind != "VirtualMachine";
            deletes && !borrowed && seen.is_current(plan)
        }
        Outcome::Canceled => true,
    }
}

/// The source VM, when it is the planned one.
fn identity(turn: &Turn<'_>) -> Result<crate::machine::VmIdentity, String> {
    let Some(planned) = turn.world.machine.map(Machine::identity) else {
        return Err("the VM is not in the source's inventory".into());
    };
    match &turn.world.source.identity {
        Some(found) if *found == planned => Ok(found.clone()),
        Some(found) => Err(format!("the source has another VM under this id ({}, {})", found.name, found.uuid)),
        None => Err("the identity of the source VM could not be read".into()),
    }
}

fn restore_power(turn: &Turn<'_>, outcome: Outcome) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let was_on = state.restore_power_state == Some(PowerState::On);
    if outcome == Outcome::Succeeded || !world.plan.source.power || !was_on || world.source.power == PowerState::On {
        return complete(turn, state.clone(), None);
    }
    let target =
        world.target.labelled.iter().find(|o| o.object.kind == "VirtualMachine" && o.is_of(world.plan, world.vm));
    let seen = world.target.vm.as_ref().map(|v| &v.seen).filter(|s| s.is_of(world.plan, world.vm));
    if let Some(target) = target.or(seen) {
        let mut next = state.clone();
        next.warnings.push(format!(
            "the source VM stays off because {} exists; remove it before you switch the source on",
            target.object
        ));
        return complete(turn, next, None);
    }
    match identity(turn) {
        Ok(vm) => go_on(turn, vec![Effect::PowerOn(vm)], WaitCode::PowerOn, "the source VM to run again".into()),
        Err(why) => complete(turn, state.clone(), Some(format!("the source VM was not switched on again: {why}"))),
    }
}

/// One more round of clean-up, or none any more.
fn go_on(turn: &Turn<'_>, effects: Vec<Effect>, code: WaitCode, message: String) -> Transition {
    if turn.state.retries > MAX_CLEANUP_RETRIES {
        return complete(turn, turn.state.clone(), Some(message));
    }
    let mut transition = turn.stay(turn.state.clone(), effects, code, message);
    transition.recheck = Recheck::After(if transition.effects.is_empty() { 3 } else { 1 });
    transition
}

fn complete(turn: &Turn<'_>, mut next: VmState, left: Option<String>) -> Transition {
    let now = turn.world.now;
    if let Some(left) = left {
        let text = format!("{CLEANUP_INCOMPLETE}{left}");
        if next.outcome == Some(Outcome::Failed) {
            next.error.get_or_insert_with(VmError::default).add(text);
        } else {
            next.warnings.push(text);
        }
    }
    pipeline::stop(&mut next.pipeline, &[], now);
    next.phase = Phase::Completed;
    next.completed = Some(stamp(now));
    next.waiting_on = None;
    next.retries = 0;
    Transition { next, effects: Vec::new(), recheck: Recheck::Never }
}
