//! Snapshots and rounds of a warm migration. A snapshot is *ensured* by a name made of migration UID and index, so
//! that a crash never leaves one that nobody knows.
use super::Turn;
use crate::machine::{Machine, VmIdentity};
use crate::names;
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::phase::Phase;
use crate::plan::state::{Precopy, WaitCode, stamp};
use crate::source::SnapshotFact;

fn rounds(turn: &Turn<'_>) -> usize {
    turn.state.warm.as_ref().map_or(0, |warm| warm.precopies.len())
}

fn found<'w>(turn: &Turn<'w>, index: usize) -> Option<&'w SnapshotFact> {
    let name = names::snapshot(turn.world.plan, index);
    turn.world.source.snapshots.iter().find(|s| s.name == name)
}

/// The source VM by the identity read for this step; `Err` is what to do instead.
fn vm(turn: &Turn<'_>) -> Result<VmIdentity, Transition> {
    if let Some(away) = turn.source_away() {
        return Err(away);
    }
    match (turn.world.machine.map(Machine::identity), &turn.world.source.identity) {
        (Some(planned), Some(found)) if planned == *found => Ok(found.clone()),
        (Some(planned), Some(found)) => Err(turn.fail([format!(
            "the source now has another VM under id {} ({}, {}); nothing was done to it",
            planned.id, found.name, found.uuid
        )])),
        (None, _) | (_, None) => Err(turn.wait(WaitCode::Provider, "the identity of the source VM could not be read")),
    }
}

/// Takes the snapshot of the next round.
pub(super) fn create(turn: &Turn<'_>) -> Transition {
    let vm = match vm(turn) {
        Ok(vm) => vm,
        Err(instead) => return instead,
    };
    let index = rounds(turn);
    let name = names::snapshot(turn.world.plan, index);
    match found(turn, index) {
        None => {
            let message = format!("snapshot {name}");
            turn.stay(turn.state.clone(), vec![Effect::EnsureSnapshot { vm, name }], WaitCode::Snapshot, message)
        }
        Some(snapshot) => {
            let mut next = turn.state.clone();
            let round =
                Precopy { start: Some(stamp(turn.world.now)), snapshot: snapshot.id.clone(), ..Precopy::default() };
            next.warm.get_or_insert_default().precopies.push(round);
            turn.go(next)
        }
    }
}

/// Waits until the snapshot of the round can be read from.
pub(super) fn wait(turn: &Turn<'_>) -> Transition {
    if let Some(away) = turn.source_away() {
        return away;
    }
    let Some(index) = rounds(turn).checked_sub(1) else { return turn.fail(["there is no round to wait for".into()]) };
    match found(turn, index) {
        Some(snapshot) if snapshot.ready => {
            let mut next = turn.state.clone();
            if let Some(round) = next.warm.as_mut().and_then(|w| w.precopies.last_mut()) {
                round.snapshot = snapshot.id.clone();
            }
            turn.go(next)
        }
        Some(_) => {
            turn.wait(WaitCode::Snapshot, format!("snapshot {} to be ready", names::snapshot(turn.world.plan, index)))
        }
        None => {
            turn.fail([format!("snapshot {} disappeared from the source", names::snapshot(turn.world.plan, index))])
        }
    }
}

/// Records the change identities, from which the next round goes on.
pub(super) fn store_deltas(turn: &Turn<'_>) -> Transition {
    if let Some(away) = turn.source_away() {
        return away;
    }
    let Some(index) = rounds(turn).checked_sub(1) else { return turn.fail(["there is no round to record".into()]) };
    match found(turn, index) {
        Some(snapshot) => {
            let mut next = turn.state.clone();
            if let Some(round) = next.warm.as_mut().and_then(|w| w.precopies.last_mut()) {
                round.deltas = snapshot.deltas.clone();
            }
            turn.go(next)
        }
        None => {
            turn.fail([format!("snapshot {} disappeared from the source", names::snapshot(turn.world.plan, index))])
        }
    }
}

/// Between two rounds: the cutover, the next round, or a wait for one of them.
pub(super) fn paused(turn: &Turn<'_>) -> Transition {
    let now = turn.world.now;
    if turn.world.cutover.is_some_and(|at| at <= now) {
        return turn.jump(turn.state.clone(), Phase::StorePowerState);
    }
    match turn.state.warm.as_ref().and_then(|w| w.next_precopy_at) {
        Some(at) if at > now => {
            let cutover =
                turn.world.cutover.map_or_else(|| "no cutover is set".to_owned(), |at| format!("cutover at {at}"));
            turn.wait(WaitCode::Cutover, format!("next precopy at {at}; {cutover}"))
        }
        Some(_) | None => turn.go(turn.state.clone()),
    }
}

/// Removes the snapshots that are there: the one of the last round, or all at the end.
pub(super) fn remove(turn: &Turn<'_>) -> Transition {
    let vm = match vm(turn) {
        Ok(vm) => vm,
        Err(instead) => return instead,
    };
    let snapshots = &turn.world.source.snapshots;
    if snapshots.is_empty() {
        return turn.go(turn.state.clone());
    }
    let effects: Vec<_> =
        snapshots.iter().map(|s| Effect::RemoveSnapshot { vm: vm.clone(), name: s.name.clone() }).collect();
    // the final removal has no phase of its own to wait in
    turn.stay(
        turn.state.clone(),
        effects,
        WaitCode::SnapshotRemoval,
        format!("{} snapshots to be gone", snapshots.len()),
    )
}

/// Waits until no snapshot is left.
pub(super) fn wait_for_removal(turn: &Turn<'_>) -> Transition {
    if let Some(away) = turn.source_away() {
        return away;
    }
    if turn.world.source.snapshots.is_empty() { turn.go(turn.state.clone()) } else { remove(turn) }
}
