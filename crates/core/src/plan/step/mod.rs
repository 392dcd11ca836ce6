//! One step of one VM's migration: a pure function of the stored state and of what was seen.
//!
//! ```text
//!              ┌─ outcome decided? ──► settle: remove what is ours, put the source back, Completed
//!   step ──────┼─ canceled? ─────────► outcome Canceled
//!              └─ match phase ───────► go to the next phase · stay and wait · outcome Failed
//! ```
//! Total: it never fails and never panics; a failure is a state. The clean-up is the one branch at the top and not a
//! case of each phase, so that a crash, a cancel and a failure at any moment end in the same few lines.
mod convert;
mod create_vm;
mod hook;
mod inspect;
mod prepare;
mod restarts;
mod settle;
mod snapshot;
mod transfer;

use forklift_api::worker::Verify;
use jiff::Timestamp;

use super::effect::{Effect, EffectError};
use super::itinerary::{self, Facets, Itinerary};
use super::phase::Phase;
use super::pipeline;
use super::state::{Outcome, Step, Task, VmError, VmState, WaitCode, WaitingOn, stamp};
use super::world::{CancelReason, MigrationKind, Needs, PlanVm, World};
use super::{Recheck, Transition};
use crate::names;

/// Attempts of a failing effect before the VM fails.
pub const MAX_RETRIES: u32 = 8;
/// Attempts of the clean-up before it is given up with a note of what is left.
pub const MAX_CLEANUP_RETRIES: u32 = 120;
/// What an error starts with when the clean-up was given up.
pub const CLEANUP_INCOMPLETE: &str = "clean-up was given up: ";
/// Seconds between two looks while something is waited for.
const POLL: u32 = 3;

/// Decides what happens next.
pub fn step(state: &VmState, world: &World<'_>) -> Transition {
    let Some(list) = itinerary::itinerary(world.plan) else {
        let turn = Turn { state, world, facets: Facets::default(), itinerary: &itinerary::COLD };
        return if state.completed.is_some() {
            turn.over()
        } else if state.outcome.is_some() {
            settle::settle(&turn)
        } else {
            turn.fail(["live migration is not supported by this version; use a cold or warm migration".into()])
        };
    };
    let facets = Facets::of(world.plan, world.vm, world.machine);
    let turn = Turn { state, world, facets, itinerary: list };
    if state.completed.is_some() {
        return turn.over();
    }
    if state.outcome.is_some() {
        return settle::settle(&turn);
    }
    if let Some(reason) = world.canceled {
        return turn.cancel(reason);
    }
    match state.phase {
        Phase::Started => prepare::started(&turn),
        Phase::PreHook | Phase::PostHook => hook::run(&turn),
        Phase::StorePowerState => prepare::store_power_state(&turn),
        Phase::PowerOffSource => prepare::power_off(&turn),
        Phase::WaitForPowerOff => prepare::wait_for_power_off(&turn),
        Phase::CreateDataVolumes => transfer::create_volumes(&turn),
        Phase::CopyDisks | Phase::Finalize => transfer::copy(&turn),
        Phase::CopyingPaused => snapshot::paused(&turn),
        Phase::CreateInitialSnapshot | Phase::CreateSnapshot | Phase::CreateFinalSnapshot => snapshot::create(&turn),
        Phase::WaitForInitialSnapshot | Phase::WaitForSnapshot | Phase::WaitForFinalSnapshot => snapshot::wait(&turn),
        Phase::StoreInitialSnapshotDeltas | Phase::StoreSnapshotDeltas => snapshot::store_deltas(&turn),
        Phase::RemovePreviousSnapshot | Phase::RemovePenultimateSnapshot | Phase::RemoveFinalSnapshot => {
            snapshot::remove(&turn)
        }
        Phase::WaitForPreviousSnapshotRemoval
        | Phase::WaitForPenultimateSnapshotRemoval
        | Phase::WaitForFinalSnapshotRemoval => snapshot::wait_for_removal(&turn),
        Phase::AddCheckpoint => transfer::add_checkpoint(&turn, Phase::CopyDisks),
        Phase::AddFinalCheckpoint => transfer::add_checkpoint(&turn, Phase::Finalize),
        Phase::CreateGuestConversionPod => convert::create(&turn),
        Phase::ConvertGuest => convert::wait(&turn),
        Phase::CreateVM => create_vm::create(&turn),
        Phase::PreflightInspection => inspect::inspect(&turn),
        Phase::WaitForGuestReboots => restarts::watch(&turn),
        // never part of an itinerary here: our importer does what these phases did
        Phase::AllocateDisks | Phase::CopyDisksVirtV2V | Phase::ConvertOpenstackSnapshot => turn.go(state.clone()),
        Phase::Completed => turn.succeed(),
    }
}

/// Returns what has to be looked at for a state. `canceled` is whether the user, or a change of the plan, ended it.
pub fn needs(state: &VmState, canceled: bool) -> Needs {
    let nothing = Needs::default();
    if state.completed.is_some() {
        return nothing;
    }
    if state.outcome.is_some() || canceled {
        return Needs { machine: true, power: true, snapshots: true, target: true, labelled: true, ..nothing };
    }
    let machine = Needs { machine: true, ..nothing };
    match state.phase {
        Phase::Started => Needs { machine: true, target: true, labelled: true, ..nothing },
        Phase::PreHook | Phase::PostHook => Needs { machine: true, target: true, labelled: true, ..nothing },
        Phase::StorePowerState | Phase::PowerOffSource | Phase::WaitForPowerOff => Needs { power: true, ..machine },
        Phase::CreateDataVolumes => Needs { target: true, ..machine },
        // the power too: a source that is switched on while it is copied is noticed at once
        Phase::CopyDisks | Phase::Finalize => {
            Needs { target: true, import_progress: true, labelled: true, power: true, ..machine }
        }
        Phase::AddCheckpoint | Phase::AddFinalCheckpoint => Needs { target: true, labelled: true, ..machine },
        Phase::CopyingPaused => machine,
        Phase::PreflightInspection => Needs { target: true, labelled: true, ..machine },
        Phase::WaitForGuestReboots => Needs { target: true, guest: true, ..machine },
        Phase::CreateInitialSnapshot
        | Phase::CreateSnapshot
        | Phase::CreateFinalSnapshot
        | Phase::WaitForInitialSnapshot
        | Phase::WaitForSnapshot
        | Phase::WaitForFinalSnapshot
        | Phase::StoreInitialSnapshotDeltas
        | Phase::StoreSnapshotDeltas
        | Phase::RemovePreviousSnapshot
        | Phase::RemovePenultimateSnapshot
        | Phase::RemoveFinalSnapshot
        | Phase::WaitForPreviousSnapshotRemoval
        | Phase::WaitForPenultimateSnapshotRemoval
        | Phase::WaitForFinalSnapshotRemoval => Needs { power: true, snapshots: true, ..machine },
        Phase::CreateGuestConversionPod => Needs { target: true, ..machine },
        Phase::ConvertGuest => Needs { target: true, conversion_progress: true, labelled: true, ..machine },
        Phase::CreateVM => Needs { target: true, power: true, labelled: true, ..machine },
        Phase::AllocateDisks | Phase::CopyDisksVirtV2V | Phase::ConvertOpenstackSnapshot | Phase::Completed => machine,
    }
}

/// Decides what it means that an effect was refused: wait, count an attempt, or fail. `state` is the state the step
/// was made from, not the one it led to.
pub fn refused(state: &VmState, effect: &Effect, error: &EffectError, now: Timestamp) -> VmState {
    let mut next = state.clone();
    let text = format!("{effect}: {error}");
    if state.outcome.is_some() {
        next.retries = next.retries.saturating_add(1);
        wait(&mut next, WaitCode::Retry, text, now);
        return next;
    }
    match error {
        EffectError::Unavailable(_) | EffectError::Conflict(_) => wait(&mut next, WaitCode::Retry, text, now),
        EffectError::NotOurs(_) | EffectError::Rejected(_) | EffectError::Forbidden(_) => fail(&mut next, [text], now),
        EffectError::Failed(_) => {
            next.retries = next.retries.saturating_add(1);
            if next.retries > MAX_RETRIES {
                fail(&mut next, [format!("{text} (given up after {MAX_RETRIES} attempts)")], now);
            } else {
                wait(&mut next, WaitCode::Retry, text, now);
            }
        }
    }
    next
}

/// Returns the name of the VM's target, as far as it is decided.
pub fn target_name(state: &VmState, vm: &PlanVm) -> String {
    names::target_name(vm, state.new_name.as_deref())
}

/// Returns whether a disk's task proves that its bytes were read back (or copied, where the user wants no more).
pub fn is_verified(task: &Task, verify: Verify) -> bool {
    transfer::is_verified(task, verify)
}

/// Returns whether the step of the conversion proves that one succeeded.
pub fn is_converted(step: &Step) -> bool {
    step.task.annotations.contains_key(convert::CONVERTED) && step.task.error.is_none()
}

/// Returns whether the step of the inspection proves that one was made and found nothing that forbids the copy.
pub fn is_inspected(step: &Step) -> bool {
    step.task.annotations.contains_key(inspect::INSPECTED) && step.task.error.is_none()
}

fn wait(next: &mut VmState, code: WaitCode, message: impl Into<String>, now: Timestamp) {
    // while settling, since the end was decided: the clean-up has a grace that begins there
    let same = |w: &&WaitingOn| w.code == code || next.outcome.is_some();
    let since = next.waiting_on.as_ref().filter(same).map_or_else(|| stamp(now), |w| w.since);
    next.waiting_on = Some(WaitingOn { code, message: message.into(), since });
}

fn fail(next: &mut VmState, reasons: impl IntoIterator<Item = String>, now: Timestamp) {
    let reasons: Vec<_> = reasons.into_iter().collect();
    let mut error =
        next.error.take().unwrap_or_else(|| VmError { phase: next.phase.as_str().into(), reasons: Vec::new() });
    reasons.iter().for_each(|reason| error.add(reason));
    next.error = Some(error);
    decide(next, Outcome::Failed, &reasons, now);
}

fn decide(next: &mut VmState, outcome: Outcome, reasons: &[String], now: Timestamp) {
    next.started.get_or_insert(stamp(now));
    next.outcome = Some(outcome);
    next.retries = 0;
    next.pending = None;
    next.waiting_on = None;
    pipeline::stop(&mut next.pipeline, reasons, now);
    wait(next, WaitCode::CleanUp, "what is left to be put in order", now);
}

/// One step in the making: what it is decided on, and the ways it can end.
struct Turn<'a> {
    state: &'a VmState,
    world: &'a World<'a>,
    facets: Facets,
    itinerary: &'static Itinerary,
}

impl Turn<'_> {
    /// The VM's migration is over; nothing changes any more.
    fn over(&self) -> Transition {
        Transition { next: self.state.clone(), effects: Vec::new(), recheck: Recheck::Never }
    }

    /// To the next phase of the itinerary.
    fn go(&self, next: VmState) -> Transition {
        let phase = self.itinerary.next(self.state.phase, &self.facets);
        self.jump(next, phase)
    }

    /// To a phase that is not the next one (the rounds of a warm migration).
    fn jump(&self, mut next: VmState, phase: Phase) -> Transition {
        next.phase = phase;
        next.retries = 0;
        next.waiting_on = None;
        next.pending = None;
        next.started.get_or_insert(stamp(self.world.now));
        let step = pipeline::step_of(phase, self.kind(), &self.facets);
        pipeline::enter(&mut next.pipeline, step, self.world.now);
        if phase == Phase::Completed {
            decide(&mut next, Outcome::Succeeded, &[], self.world.now);
        }
        Transition { next, effects: Vec::new(), recheck: Recheck::Now }
    }

    fn kind(&self) -> MigrationKind {
        if self.world.plan.resume_conversion { MigrationKind::Cold } else { self.world.plan.kind }
    }

    /// Does something and looks again; `message` says what is waited for.
    fn stay(&self, mut next: VmState, effects: Vec<Effect>, code: WaitCode, message: impl Into<String>) -> Transition {
        next.pending = None;
        next.started.get_or_insert(stamp(self.world.now));
        let step = pipeline::step_of(next.phase, self.kind(), &self.facets);
        if next.outcome.is_none() {
            pipeline::enter(&mut next.pipeline, step, self.world.now);
        }
        wait(&mut next, code, message, self.world.now);
        let recheck = if effects.is_empty() { Recheck::After(POLL) } else { Recheck::After(1) };
        Transition { next, effects, recheck }
    }

    /// Waits without doing anything.
    fn wait(&self, code: WaitCode, message: impl Into<String>) -> Transition {
        self.stay(self.state.clone(), Vec::new(), code, message)
    }

    /// The VM fails for these reasons.
    fn fail(&self, reasons: impl IntoIterator<Item = String>) -> Transition {
        self.fail_from(self.state.clone(), reasons)
    }

    fn fail_from(&self, mut next: VmState, reasons: impl IntoIterator<Item = String>) -> Transition {
        fail(&mut next, reasons, self.world.now);
        Transition { next, effects: Vec::new(), recheck: Recheck::Now }
    }

    /// The VM's migration is ended early.
    fn cancel(&self, reason: CancelReason) -> Transition {
        let mut next = self.state.clone();
        let text = match reason {
            CancelReason::UserRequested => "canceled by the user",
            CancelReason::Modified => "canceled because a provider or map of the plan was replaced",
            CancelReason::Deleted => "canceled because the migration or its plan was deleted",
            CancelReason::NotFound => "canceled because the VM was not found in the source's inventory",
        };
        decide(&mut next, Outcome::Canceled, &[text.to_owned()], self.world.now);
        Transition { next, effects: Vec::new(), recheck: Recheck::Now }
    }

    /// All phases were passed.
    fn succeed(&self) -> Transition {
        self.jump(self.state.clone(), Phase::Completed)
    }

    fn target_name(&self) -> String {
        target_name(self.state, self.world.vm)
    }

    /// Waits for a source that does not answer.
    fn source_away(&self) -> Option<Transition> {
        let reason = self.world.source.unreachable.as_ref()?;
        Some(self.wait(WaitCode::Provider, format!("the source does not answer: {reason}")))
    }
}
