//! The start (leftovers, target name) and the source's power.
use super::Turn;
use crate::machine::{Machine, PowerState};
use crate::names;
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::state::WaitCode;
use crate::plan::world::{CancelReason, MigrationKind, Observed};

/// How long a guest may take to shut down.
const POWER_OFF_SECONDS: i64 = 30 * 60;
/// After this time it is asked again.
const ASK_AGAIN_SECONDS: i64 = 60;

/// Removes what earlier runs of this plan left of this VM, then chooses the target's name.
pub(super) fn started(turn: &Turn<'_>) -> Transition {
    let world = turn.world;
    let Some(machine) = world.machine else { return turn.cancel(CancelReason::NotFound) };
    if machine.traits.template {
        return turn.fail([format!("VM {} is a template", machine.name)]);
    }
    let leftovers: Vec<_> = world.target.labelled.iter().filter(|o| is_leftover(turn, o)).collect();
    if let Some(first) = leftovers.first() {
        let message = format!("{} of an earlier run to be removed ({} in all)", first.object, leftovers.len());
        let deletions = leftovers.iter().filter(|o| !o.deleting).map(|o| Effect::Delete(o.object.clone())).collect();
        return turn.stay(turn.state.clone(), deletions, WaitCode::EarlierRun, message);
    }
    choose_name(turn, machine)
}

/// Returns whether an object is of an earlier run and stands in the way of this one.
fn is_leftover(turn: &Turn<'_>, seen: &Observed) -> bool {
    let world = turn.world;
    if !seen.is_of(world.plan, world.vm) || seen.is_current(world.plan) {
        return false;
    }
    let keeps_disks = world.plan.resume_conversion || world.plan.kind == MigrationKind::Conversion;
    match seen.object.kind.as_str() {
        "VirtualMachine" | "PersistentVolumeClaim" => {
            !keeps_disks && (world.plan.options.delete_vm_on_failure || world.vm.delete_vm_on_failure)
        }
        _ => true,
    }
}

fn choose_name(turn: &Turn<'_>, machine: &Machine) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let vm = world.vm;
    let name = names::target_name(vm, state.new_name.as_deref());
    let wished = vm.target_name.as_deref().is_some_and(|n| !n.trim().is_empty());
    if let Some(why) = names::subdomain_error(&name) {
        return turn
            .fail([format!("the target name {name:?} cannot be used: {why}; set targetName of the VM in the plan")]);
    }
    let ours = |seen: &Observed| seen.is_of(world.plan, vm) && seen.is_current(world.plan);
    let foreign_vm = world.target.vm.as_ref().is_some_and(|v| v.seen.object.name == name && !ours(&v.seen));
    let taken = foreign_vm || world.target.taken_names.contains(&name);
    let mut next = state.clone();
    if taken && (wished || name == machine.name) {
        return turn.fail([format!(
            "a VirtualMachine {name} exists in namespace {} and does not belong to this migration; it is not touched: set another targetName of the VM in the plan, or remove it",
            world.plan.target_namespace
        )]);
    }
    let name = if taken { names::free_name(&name, vm, &world.target.taken_names) } else { name };
    next.new_name = (name != machine.name).then_some(name);
    turn.go(next)
}

/// Records how the source was found, before anything is done to it.
pub(super) fn store_power_state(turn: &Turn<'_>) -> Transition {
    let world = turn.world;
    if !world.plan.source.power {
        return turn.go(turn.state.clone());
    }
    if let Some(away) = turn.source_away() {
        return away;
    }
    match world.source.power {
        PowerState::Unknown => turn.wait(WaitCode::Provider, "the power state of the source VM is not known"),
        power @ (PowerState::On | PowerState::Off) => {
            let mut next = turn.state.clone();
            next.restore_power_state = Some(power);
            turn.go(next)
        }
    }
}

/// Shuts the source down: only the very VM that was planned, by the identity read for this step.
pub(super) fn power_off(turn: &Turn<'_>) -> Transition {
    let world = turn.world;
    if !world.plan.source.power {
        return turn.go(turn.state.clone());
    }
    if let Some(away) = turn.source_away() {
        return away;
    }
    if world.source.power == PowerState::Off {
        return turn.go(turn.state.clone());
    }
    let Some(planned) = world.machine.map(Machine::identity) else {
        return turn.wait(WaitCode::Provider, "the VM is not in the source's inventory at the moment");
    };
    match &world.source.identity {
        None => turn.wait(WaitCode::Provider, "the identity of the source VM could not be read"),
        Some(found) if *found != planned => turn.fail([format!(
            "the source now has another VM under id {}: planned {} ({}), found {} ({}); nothing was done to it",
            planned.id, planned.name, planned.uuid, found.name, found.uuid
        )]),
        Some(found) => {
            let mut transition = turn.go(turn.state.clone());
            transition.effects.push(Effect::PowerOff(found.clone()));
            transition
        }
    }
}

/// Waits until the source is off; not for ever, and not for another VM.
pub(super) fn wait_for_power_off(turn: &Turn<'_>) -> Transition {
    let world = turn.world;
    if !world.plan.source.power {
        return turn.go(turn.state.clone());
    }
    let waited = turn.state.waiting_on.as_ref().filter(|w| w.code == WaitCode::PowerOff);
    let waited = waited.map_or(0, |w| world.now.as_second().saturating_sub(w.since.as_second()));
    if waited > POWER_OFF_SECONDS {
        return turn.fail([format!(
            "the guest of {} did not shut down within {} minutes; shut it down by hand, then migrate it again",
            world.vm.name,
            POWER_OFF_SECONDS / 60
        )]);
    }
    if let Some(why) = &world.source.unreachable {
        return turn.wait(
            WaitCode::PowerOff,
            format!("the source to tell whether {} is off; it does not answer: {why}", world.vm.name),
        );
    }
    if let (Some(planned), Some(found)) = (world.machine.map(Machine::identity), &world.source.identity)
        && planned != *found
    {
        return turn
            .fail([format!("the source now has another VM under id {} ({}, {})", planned.id, found.name, found.uuid)]);
    }
    match world.source.power {
        PowerState::Off => turn.go(turn.state.clone()),
        power @ (PowerState::On | PowerState::Unknown) => {
            let message =
                format!("the guest of {} to shut down; shut it down by hand if it does not follow", world.vm.name);
            // A guest that does not follow is asked again: it may have been busy, and the source may know what to do
            // with one that never follows. Only the VM that was planned, by the identity read for this step.
            let again = waited > ASK_AGAIN_SECONDS && power == PowerState::On;
            let effects: Vec<_> = match &world.source.identity {
                Some(found) if again && world.machine.map(Machine::identity).as_ref() == Some(found) => {
                    vec![Effect::PowerOff(found.clone())]
                }
                Some(_) | None => Vec::new(),
            };
            turn.stay(turn.state.clone(), effects, WaitCode::PowerOff, message)
        }
    }
}
