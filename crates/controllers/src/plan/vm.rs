//! One VM's turn in a pass: observe, step, apply, and again while the state moves on by itself.
//!
//! ```text
//!   ┌──► needs ─► observe ─► step ─► permit ─► apply ─┬─ all applied: the next state ──┐
//!   │                                                 └─ one refused: `refused`'s state ┤
//!   └──────────────────────── recheck Now ◄────────────────────────────────────────────┘──► stored, once per pass
//! ```
use std::sync::Arc;
use std::time::Duration;

use forklift_api::Plan;
use forklift_core::machine::Machine;
use forklift_core::plan::run;
use forklift_core::plan::step::{needs, refused, step, target_name};
use forklift_core::plan::{
    CancelReason, EffectError, Needs, PlanFacts, PlanVm, Recheck, SourceFacts, VmState, WaitCode, WaitingOn, World,
};
use forklift_core::source::{DiskSource, Source, SourceError};
use forklift_core::{names, safety};
use jiff::Timestamp;

use super::apply::Target;
use super::observe::{Children, target};
use crate::context::Context;

/// Phases that one pass may go through: more than an itinerary has, so that only a loop would meet it.
const ROUNDS: usize = 40;
/// How long a source may take for one answer.
const SOURCE_PATIENCE: Duration = Duration::from_secs(30);

/// What one VM's turn is taken with.
pub struct Turn<'a> {
    /// Client, caches, workers.
    pub context: &'a Context,
    /// The plan, for events.
    pub plan: &'a Plan,
    /// The plan, resolved.
    pub facts: &'a PlanFacts,
    /// The plan's children, indexed.
    pub children: &'a Children,
    /// The source; `None` while it is not there.
    pub source: Option<&'a Arc<dyn Source>>,
    /// Cutover time of the VM.
    pub cutover: Option<Timestamp>,
    /// Why the VM's migration is to end early.
    pub canceled: Option<CancelReason>,
    /// The time of the pass.
    pub now: Timestamp,
}

/// What a source told about a VM, asked once per turn.
#[derive(Default)]
struct Told {
    machine: Option<Machine>,
    disks: Vec<DiskSource>,
    facts: SourceFacts,
    /// Why it could not tell how the disks are read.
    no_disks: Option<String>,
}

/// Takes the turn of one VM. Returns the state to be stored and when to look again.
pub async fn advance(turn: &Turn<'_>, vm: &PlanVm, mut state: VmState) -> (VmState, Recheck) {
    let mut recheck = Recheck::After(3);
    for _ in 0..ROUNDS {
        let wanted = needs(&state, turn.canceled.is_some());
        let name = target_name(&state, vm);
        let (told, seen) =
            tokio::join!(ask(turn, vm, wanted), target(turn.context, turn.children, turn.facts, vm, &name, wanted));
        // Not to know a VM is something else than to know that it is gone: nothing is decided on it.
        if wanted.machine && told.machine.is_none() && state.outcome.is_none() && turn.canceled.is_none() {
            if let Some(why) = &told.facts.unreachable {
                wait_for_provider(&mut state, why, turn.now);
                return (state, recheck);
            }
        }
        let world = World {
            now: turn.now,
            plan: turn.facts,
            vm,
            machine: told.machine.as_ref(),
            disk_sources: &told.disks,
            source: &told.facts,
            target: &seen,
            cutover: turn.cutover,
            canceled: turn.canceled,
        };
        let transition = step(&state, &world);
        recheck = transition.recheck;
        let moved = transition.next.phase != state.phase
            || transition.next.outcome != state.outcome
            || transition.next.completed != state.completed;
        // what the target has for a system is looked at when a pass begins
        let identified = transition.next.operating_system != state.operating_system;
        let target = Target { context: turn.context, plan: turn.plan, source: turn.source };
        for effect in &transition.effects {
            let applied = match safety::permit(effect, &state, &world) {
                Ok(()) => target.apply(effect).await,
                Err(violation) => Err(EffectError::Forbidden(violation.to_string())),
            };
            if let Err(error) = applied {
                tracing::warn!(vm = vm.name, phase = %state.phase, %error, "{effect} was refused");
                return (refused(&state, effect, &error, turn.now), Recheck::After(3));
            }
        }
        if let Err(violation) = safety::permit_outcome(&transition.next, &world) {
            tracing::error!(vm = vm.name, phase = %state.phase, %violation, "an outcome is not permitted");
            run::fail_blocked(&mut state, &violation.to_string(), turn.now);
            return (state, Recheck::Now);
        }
        state = transition.next;
        if let (Some(why), Some(waiting)) = (&told.no_disks, &mut state.waiting_on)
            && waiting.code == WaitCode::Provider
        {
            waiting.message = format!("the source to tell how its disks are read: {why}");
        }
        // What was applied shows in the caches a moment later: their events bring the next pass.
        if recheck != Recheck::Now || !moved || identified || !transition.effects.is_empty() {
            break;
        }
    }
    (state, recheck)
}

fn wait_for_provider(state: &mut VmState, why: &str, now: Timestamp) {
    let since =
        state.waiting_on.as_ref().filter(|known| known.code == WaitCode::Provider).map_or(now, |known| known.since);
    let message = format!("the source does not answer: {why}");
    state.waiting_on = Some(WaitingOn { code: WaitCode::Provider, message, since });
}

/// Asks the source what is needed.
async fn ask(turn: &Turn<'_>, vm: &PlanVm, wanted: Needs) -> Told {
    let mut told = Told::default();
    let Some(source) = turn.source else {
        told.facts.unreachable = Some("the provider is not ready".to_owned());
        return told;
    };
    let asked = async {
        if wanted.machine {
            match source.machine(&vm.id).await {
                Ok(machine) => {
                    let machine = turn.facts.migrated(vm, machine);
                    let disks = source.disk_sources(&machine).await;
                    told.machine = Some(machine);
                    match disks {
                        Ok(disks) => told.disks = disks,
                        Err(error) => told.no_disks = Some(error.to_string()),
                    }
                }
                Err(SourceError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if wanted.power && source.capabilities().power {
            let (identity, power) = source.power_state(&vm.id).await?;
            told.facts.identity = Some(identity);
            told.facts.power = power;
        }
        if wanted.snapshots
            && let Some(snapshots) = source.snapshots()
            && let Some(identity) = told.facts.identity.clone()
        {
            told.facts.snapshots = snapshots.list(&identity, &names::snapshot_prefix(turn.facts)).await?;
        }
        Ok::<_, SourceError>(())
    };
    let answer = tokio::time::timeout(SOURCE_PATIENCE, asked).await;
    match answer {
        Ok(Ok(())) => {}
        Ok(Err(error)) => told.facts.unreachable = Some(error.to_string()),
        Err(_) => told.facts.unreachable = Some(format!("no answer within {} s", SOURCE_PATIENCE.as_secs())),
    }
    told
}
