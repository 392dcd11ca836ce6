//! The inspection of the guest at its first snapshot, before anything is copied.
//!
//! ```text
//! none ─► credentials, Conversion ─► Pending, Running ─┬─ Succeeded ─┬─ no concern forbids it ─► go on
//!   ▲                                                  │             └─ Critical, Error ───────► the VM fails
//!   └─────────── removed ◄── Canceled, retryable ──────┴─ Failed ──────────────────────────────► the VM fails
//! ```
use forklift_api::conversion::InspectionResult;
use forklift_api::worker::{ImportSource, VsphereDisk};

use super::Turn;
use super::transfer::explain;
use crate::build::{inspection, vddk};
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::pipeline::{self, StepName};
use crate::plan::state::{Finding, VmState, WaitCode};
use crate::plan::world::{ConversionFact, ConversionPhase};

/// Annotation of the step: UID of the inspection that was made. Volumes are created only with this proof.
pub(super) const INSPECTED: &str = "inspected";
/// Annotation of the step: bytes that the inspection read from the source.
const BYTES_READ: &str = "bytesRead";
const ATTEMPTS: &str = "attempts";
const REPLACED: &str = "replaced";

/// Has the guest inspected, and goes on when nothing forbids it.
pub(super) fn inspect(turn: &Turn<'_>) -> Transition {
    let mut next = turn.state.clone();
    let Some(fact) = current(turn) else { return make(turn, next) };
    if fact.seen.deleting {
        return turn.wait(WaitCode::Inspection, "the earlier inspection to be gone");
    }
    let Some(step) = pipeline::find(&mut next.pipeline, StepName::PreflightInspection) else {
        return turn.fail(["the pipeline has no step PreflightInspection".into()]);
    };
    let notes = &mut step.task.annotations;
    if notes.get(REPLACED) == Some(&fact.seen.object.uid) {
        return replace(turn, next, fact, "the earlier inspection to be gone".into());
    }
    let error = fact.result.as_ref().and_then(|result| result.error.as_ref());
    match (fact.phase, &fact.inspection) {
        (ConversionPhase::Succeeded, Some(found)) => {
            notes.insert(INSPECTED.into(), fact.seen.object.uid.clone());
            notes.insert(BYTES_READ.into(), found.bytes_read.max(0).to_string());
            notes.remove(ATTEMPTS);
            record(&mut next, found);
            judge(turn, next)
        }
        // somebody ended the inspection, not the migration
        (ConversionPhase::Canceled, _) => {
            notes.insert(REPLACED.into(), fact.seen.object.uid.clone());
            replace(turn, next, fact, "the canceled inspection to be gone; it is made again".into())
        }
        (ConversionPhase::Failed | ConversionPhase::Succeeded, _) => {
            let said = fact.message.clone().filter(|message| !message.is_empty());
            let why = error.map(|error| explain("inspection", error)).or(said);
            let why = why.unwrap_or_else(|| "it left no result; see the log of its pod".into());
            let attempts = notes.get(ATTEMPTS).and_then(|count| count.parse::<u32>().ok()).unwrap_or(0) + 1;
            if !error.is_some_and(|error| error.retryable) || attempts > turn.world.plan.worker_retries {
                let hint = "or set runPreflightInspection of the plan to false to migrate without it";
                return turn.fail_from(next, ["Deep inspection failed.".into(), format!("{why}; {hint}")]);
            }
            notes.insert(ATTEMPTS.into(), attempts.to_string());
            notes.insert(REPLACED.into(), fact.seen.object.uid.clone());
            replace(turn, next, fact, format!("{why}; attempt {attempts}"))
        }
        (ConversionPhase::Pending | ConversionPhase::Running, _) => {
            let progress = fact.progress.as_ref();
            step.task.reason = progress.map(|progress| progress.phase.clone()).filter(|phase| !phase.is_empty());
            let said = progress.and_then(|progress| progress.message.clone()).or_else(|| fact.message.clone());
            let said = said.filter(|text| !text.is_empty()).map(|text| format!(": {text}")).unwrap_or_default();
            turn.stay(next, Vec::new(), WaitCode::Inspection, format!("the inspection of the guest{said}"))
        }
    }
}

fn current<'w>(turn: &Turn<'w>) -> Option<&'w ConversionFact> {
    let world = turn.world;
    world.target.inspection.as_ref().filter(|c| c.seen.is_of(world.plan, world.vm) && c.seen.is_current(world.plan))
}

fn make(turn: &Turn<'_>, next: VmState) -> Transition {
    let world = turn.world;
    let first = next.warm.as_ref().and_then(|warm| warm.precopies.first());
    let Some(snapshot) = first.map(|round| round.snapshot.clone()).filter(|id| !id.is_empty()) else {
        return turn.fail(["there is no snapshot to inspect the guest at".into()]);
    };
    let Some(source) = world.disk_sources.first() else {
        return turn.wait(WaitCode::Provider, "the source to tell how its disks are read");
    };
    let disk = match &source.source {
        ImportSource::Vsphere(disk) => disk.clone(),
        ImportSource::File { .. } | ImportSource::Nbd { .. } | ImportSource::Http { .. } => VsphereDisk::default(),
    };
    let connection = Box::new(inspection::connection(world.plan, world.vm, &disk));
    let object = inspection::inspection(world.plan, world.vm, &snapshot, &disk);
    let message = format!("inspection {} to appear", object.name);
    let credentials = match source.secret.as_ref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let namespace = world.plan.provider.namespace.clone();
            Effect::CopySecret { namespace, name: name.clone(), to: connection }
        }
        None => Effect::Ensure(connection),
    };
    let config = vddk::config_map(world.plan, world.vm, &world.plan.namespace).map(|map| Effect::Ensure(Box::new(map)));
    let effects = config.into_iter().chain([credentials, Effect::Ensure(Box::new(object))]).collect();
    turn.stay(next, effects, WaitCode::Inspection, message)
}

/// Removes an inspection; the next look makes another one.
fn replace(turn: &Turn<'_>, next: VmState, fact: &ConversionFact, message: String) -> Transition {
    turn.stay(next, vec![Effect::Delete(fact.seen.object.clone())], WaitCode::Inspection, message)
}

/// Keeps what was found, each concern once.
fn record(next: &mut VmState, found: &InspectionResult) {
    next.findings.clear();
    let word = |text: &str, other: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join("-");
        if text.is_empty() { other.to_owned() } else { text.trim_end_matches(':').to_owned() }
    };
    for concern in &found.concerns {
        let message = if concern.message.is_empty() { &concern.label } else { &concern.message };
        let finding = Finding {
            category: word(&concern.category, "Warning"),
            id: word(&concern.id, "concern"),
            message: message.clone(),
        };
        if !next.findings.contains(&finding) {
            next.findings.push(finding);
        }
    }
}

fn judge(turn: &Turn<'_>, next: VmState) -> Transition {
    let blockers: Vec<_> = next.findings.iter().filter(|f| f.blocks()).map(|f| f.message.clone()).collect();
    if blockers.is_empty() {
        return turn.go(next);
    }
    let mut reasons = vec!["VM deep inspection found critical concerns".to_owned()];
    reasons.extend(blockers);
    turn.fail_from(next, reasons)
}
