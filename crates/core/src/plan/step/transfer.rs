//! Volumes and importers: one PVC and one Job per disk, until every disk is copied and verified.
use forklift_api::worker::{ImportProgress, Verify, WorkerError};

use super::Turn;
use crate::build::{importer_job, importer_limit, namespace, pvc, store, vddk};
use crate::machine::{Machine, PowerState};
use crate::names;
use crate::plan::effect::{Effect, TargetObject};
use crate::plan::phase::Phase;
use crate::plan::pipeline::{self, StepName};
use crate::plan::state::{Precopy, Progress, Step, StepPhase, Task, VmState, WaitCode, stamp};
use crate::plan::world::{ImportFact, JobState, MigrationKind, PvcFact, World};
use crate::plan::{Recheck, Transition};

/// Annotation of a task: how often its worker was started anew.
const ATTEMPTS: &str = "attempts";
/// Annotation of a task: UID of the Job that was given up.
const REPLACED: &str = "replaced";

/// Creates the namespace, the appliance store, the PVCs and the importers.
pub(super) fn create_volumes(turn: &Turn<'_>) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let Some(machine) = world.machine else {
        return turn.fail([format!("VM {} is not in the source's inventory any more", world.vm.name)]);
    };
    if world.disk_sources.len() != machine.disks.len() {
        return turn.wait(WaitCode::Provider, "the source to tell how its disks are read");
    }
    let unknown = machine.disks.iter().filter(|disk| disk.capacity == 0);
    let unknown: Vec<_> = unknown.map(|disk| format!("the size of disk {} is not known", disk.key)).collect();
    if !unknown.is_empty() {
        return turn.fail(unknown);
    }
    let target = turn.target_name();
    let mut missing: Vec<TargetObject> = Vec::new();
    let mut jobs: Vec<Effect> = Vec::new();
    for (index, disk) in machine.disks.iter().enumerate() {
        match find_pvc(world, &disk.key) {
            Some(found) if !found.seen.is_current(world.plan) => {
                return turn.fail([format!(
                    "{} is of an earlier run of this plan and was kept; remove it to migrate the VM again",
                    found.seen.object
                )]);
            }
            Some(_) => {}
            None => missing.push(pvc::pvc(world.plan, world.vm, machine, index, disk, &target)),
        }
    }
    if missing.is_empty() {
        // only now, so that a Job is not scheduled onto a claim that was refused
        for (index, disk) in machine.disks.iter().enumerate() {
            if find_import(world, &disk.key, round(state)).is_none() {
                jobs.extend(job(turn, machine, index).into_iter().flatten());
            }
        }
    } else {
        let mut first = Vec::new();
        if !world.target.namespace {
            first.push(namespace::namespace(&world.plan.target_namespace));
        }
        first.extend(store::store(world.plan));
        first.append(&mut missing);
        missing = first;
    }
    let mut effects: Vec<Effect> = missing.into_iter().map(|object| Effect::Ensure(Box::new(object))).collect();
    effects.append(&mut jobs);
    let mut made = effects.iter().filter_map(|effect| match effect {
        Effect::Ensure(object) => Some(object),
        _ => None,
    });
    let Some(object) = made.next() else { return turn.go(state.clone()) };
    let message = format!("{} {} to appear ({} objects in all)", object.kind, object.name, 1 + made.count());
    turn.stay(state.clone(), effects, WaitCode::TargetObjects, message)
}

fn find_pvc<'w>(world: &World<'w>, disk: &str) -> Option<&'w PvcFact> {
    let ours = |pvc: &&PvcFact| pvc.disk == disk && !pvc.seen.deleting && pvc.seen.is_of(world.plan, world.vm);
    world.target.pvcs.iter().find(ours)
}

fn find_import<'w>(world: &World<'w>, disk: &str, round: u32) -> Option<&'w ImportFact> {
    let ours = |job: &&ImportFact| {
        job.disk == disk
            && job.round == round
            && job.seen.is_of(world.plan, world.vm)
            && job.seen.is_current(world.plan)
    };
    world.target.imports.iter().find(ours)
}

/// Returns the round of a warm migration, counted from 0; always 0 in a cold one.
fn round(state: &VmState) -> u32 {
    let rounds = state.warm.as_ref().map_or(0, |warm| warm.precopies.len());
    u32::try_from(rounds.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// What makes the importer of a disk, when its claim exists: the credentials it reads with, and its Job.
fn job(turn: &Turn<'_>, machine: &Machine, index: usize) -> Option<Vec<Effect>> {
    let world = turn.world;
    let source = world.disk_sources.get(index)?;
    let mut effects = Vec::new();
    let mut credentials = None;
    if let Some(name) = source.secret.as_ref().filter(|name| !name.is_empty()) {
        let copy = importer_job::credentials(world.plan, world.vm, name);
        credentials = Some(copy.name.clone());
        let namespace = world.plan.provider.namespace.clone();
        effects.push(Effect::CopySecret { namespace, name: name.clone(), to: Box::new(copy) });
    }
    let disk = machine.disks.get(index)?;
    let claim = find_pvc(world, &disk.key)?;
    let precopies = turn.state.warm.as_ref().map_or(&[][..], |warm| &warm.precopies);
    let (current, before) = precopies.split_last().map_or((None, None), |(last, rest)| (Some(last), rest.last()));
    let state_at = |round: Option<&'_ Precopy>| {
        let delta = round?.deltas.iter().find(|delta| delta.disk == disk.key)?;
        Some(delta.delta_id.clone()).filter(|id| !id.is_empty())
    };
    let (change_id, base_change_id) = (state_at(current), state_at(before));
    effects.extend(
        importer_limit::importer_limit(world.plan, world.vm, index, source)
            .map(|limit| Effect::Ensure(Box::new(limit))),
    );
    let config = vddk::config_map(world.plan, world.vm, &world.plan.target_namespace);
    effects.extend(config.map(|map| Effect::Ensure(Box::new(map))));
    let snapshot = current.map(|round| round.snapshot.as_str()).filter(|id| !id.is_empty());
    let snapshot_name = snapshot.map(|_| names::snapshot(world.plan, round(turn.state) as usize));
    let job = importer_job::importer_job(
        world.plan,
        world.vm,
        &importer_job::Import {
            index,
            disk: &disk.key,
            source,
            claim: &claim.seen.object.name,
            volume_mode: &claim.volume_mode,
            round: round(turn.state),
            snapshot,
            snapshot_name: snapshot_name.as_deref(),
            change_id: change_id.as_deref(),
            base_change_id: base_change_id.as_deref(),
            credentials: credentials.as_deref(),
        },
    );
    effects.push(Effect::Ensure(Box::new(job)));
    Some(effects)
}

/// What came of the look at one disk.
enum Look {
    Done,
    Waits(WaitCode, String),
    Acts(Vec<Effect>, String),
    Failed(String),
}

/// Follows the importers until every disk is copied and verified.
pub(super) fn copy(turn: &Turn<'_>) -> Transition {
    let mut next = turn.state.clone();
    let stands_still = turn.world.plan.kind == MigrationKind::Cold || next.phase == Phase::Finalize;
    let on = turn.world.source.power == PowerState::On && turn.world.source.unreachable.is_none();
    if turn.world.plan.source.power && stands_still && on {
        return turn.fail([format!(
            "source VM {} was switched on while its disks were copied; the copy is not used",
            turn.world.vm.name
        )]);
    }
    let name = if next.phase == Phase::Finalize { StepName::Cutover } else { StepName::DiskTransfer };
    let Some(step) = pipeline::find(&mut next.pipeline, name) else {
        return turn.fail([format!("the pipeline has no step {}", name.as_str())]);
    };
    let mut effects = Vec::new();
    let mut waits = Vec::new();
    let mut failures = Vec::new();
    for task in &mut step.tasks {
        if is_verified(task, turn.world.plan.verify) {
            continue;
        }
        match look(turn, task) {
            Look::Done => {}
            Look::Waits(code, message) => waits.push((code, message)),
            Look::Acts(mut wanted, message) => {
                effects.append(&mut wanted);
                waits.push((WaitCode::Copy, message));
            }
            Look::Failed(reason) => {
                task.error.get_or_insert_default().add(reason.clone());
                failures.push(reason);
            }
        }
    }
    let tasks = step.tasks.len();
    pipeline::sum_up(step);
    if !failures.is_empty() {
        return turn.fail_from(next, failures);
    }
    match waits.into_iter().next() {
        Some((code, message)) if tasks > 1 => {
            turn.stay(next, effects, code, format!("{message} ({tasks} disks in all)"))
        }
        Some((code, message)) => turn.stay(next, effects, code, message),
        None => copied(turn, next),
    }
}

/// Returns whether a disk's task proves that its bytes were read back.
pub(crate) fn is_verified(task: &Task, verify: Verify) -> bool {
    let proof = task.annotations.get(pipeline::VERIFIED).map(String::as_str);
    task.phase == StepPhase::Completed
        && task.error.is_none()
        && (proof == Some("true") || (verify == Verify::None && proof.is_some()))
}

fn look(turn: &Turn<'_>, task: &mut Task) -> Look {
    let world = turn.world;
    let disk = task.name.clone();
    let Some(claim) = find_pvc(world, &disk) else {
        return Look::Failed(format!("the PVC of disk {disk} is missing; disk transfer cannot continue"));
    };
    if claim.phase == "Lost" {
        return Look::Failed(format!("{} lost its volume", claim.seen.object));
    }
    let Some(import) = find_import(world, &disk, round(turn.state)) else {
        let made = world.machine.and_then(|machine| Some((machine, machine.disk(&disk)?.0)));
        return match made.and_then(|(machine, index)| job(turn, machine, index)) {
            Some(effects) => Look::Acts(effects, format!("the importer of disk {disk} to appear")),
            None => Look::Waits(WaitCode::Provider, format!("the source to tell how disk {disk} is read")),
        };
    };
    if import.seen.deleting {
        return Look::Waits(WaitCode::Copy, format!("the failed importer of disk {disk} to be gone"));
    }
    if task.annotations.get(REPLACED) == Some(&import.seen.object.uid) {
        return Look::Acts(
            vec![Effect::Delete(import.seen.object.clone())],
            format!("the failed importer of disk {disk} to be gone"),
        );
    }
    let error = import.result.as_ref().and_then(|r| r.error.as_ref());
    match (import.state, error) {
        (_, Some(error)) if !error.retryable => Look::Failed(explain(&disk, error)),
        (JobState::Failed, error) => {
            let why = error.map_or_else(
                || format!("disk {disk}: the importer failed without saying why; see the log of its pod"),
                |e| explain(&disk, e),
            );
            replace(turn, task, import, why)
        }
        (JobState::Succeeded, Some(error)) => Look::Failed(explain(&disk, error)),
        (JobState::Succeeded, None) => match &import.result {
            Some(result) if result.verified || world.plan.verify == Verify::None => {
                pipeline::show_result(task, result, world.now);
                Look::Done
            }
            Some(_) => Look::Failed(format!("disk {disk}: the copy was not verified; it is not used")),
            // a finished target with its manifest makes a second run answer at once
            None => {
                replace(turn, task, import, format!("disk {disk}: the importer finished without telling its result"))
            }
        },
        (JobState::Pending | JobState::Running, error) => {
            if let Some(progress) = &import.progress {
                pipeline::show_progress(task, progress, world.now);
            }
            let code = if claim.phase == "Bound" { WaitCode::Copy } else { WaitCode::Volume };
            Look::Waits(code, progress_text(&disk, claim, import, error))
        }
    }
}

/// Gives a Job up and has another one made, unless that was done often enough.
fn replace(turn: &Turn<'_>, task: &mut Task, import: &ImportFact, why: String) -> Look {
    let attempts = task.annotations.get(ATTEMPTS).and_then(|a| a.parse::<u32>().ok()).unwrap_or(0) + 1;
    if attempts > turn.world.plan.worker_retries {
        return Look::Failed(why);
    }
    task.annotations.insert(ATTEMPTS.into(), attempts.to_string());
    task.annotations.insert(REPLACED.into(), import.seen.object.uid.clone());
    task.reason = Some(why.clone());
    Look::Acts(vec![Effect::Delete(import.seen.object.clone())], format!("{why}; attempt {attempts}"))
}

pub(super) fn explain(subject: &str, error: &WorkerError) -> String {
    let hint = error.hint.as_deref().filter(|h| !h.is_empty());
    let code = if error.code.is_empty() { String::new() } else { format!(" [{}]", error.code) };
    format!("{subject}: {}{code}{}", error.message, hint.map(|h| format!("; {h}")).unwrap_or_default())
}

fn progress_text(disk: &str, claim: &PvcFact, import: &ImportFact, error: Option<&WorkerError>) -> String {
    if let Some(error) = error {
        return format!("{}; it is tried again", explain(disk, error));
    }
    if let (Some(why), JobState::Pending) = (&import.waiting, import.state) {
        return format!("the importer of disk {disk} to start: {why}");
    }
    if let Some(why) = claim.message.as_ref().filter(|_| claim.phase != "Bound") {
        return format!("the volume of disk {disk}: {why}");
    }
    match &import.progress {
        Some(p) if p.bytes_total > 0 => {
            let eta = p.eta_seconds.map(|s| format!(", about {s} s left")).unwrap_or_default();
            let doing = if p.phase == forklift_api::worker::ImportPhase::Verifying { "verified" } else { "copied" };
            let how = p.message.as_ref().map(|message| format!("; {message}")).unwrap_or_default();
            format!(
                "disk {disk}: {} of {} MB {doing}{eta}{how}",
                pipeline::megabytes(p.bytes_done),
                pipeline::megabytes(p.bytes_total)
            )
        }
        Some(ImportProgress { message: Some(message), .. }) => format!("the importer of disk {disk}: {message}"),
        Some(_) | None => format!("the importer of disk {disk}"),
    }
}

/// All disks are copied and verified.
fn copied(turn: &Turn<'_>, mut next: VmState) -> Transition {
    let now = turn.world.now;
    if turn.world.plan.kind == MigrationKind::Warm {
        let warm = next.warm.get_or_insert_default();
        warm.successes += 1;
        warm.consecutive_failures = 0;
        let seconds = i64::from(turn.world.plan.precopy_seconds.max(1));
        warm.next_precopy_at = now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok().map(stamp);
        if let Some(round) = warm.precopies.last_mut() {
            round.end.get_or_insert(stamp(now));
        }
    }
    next.disks_copied = turn.world.plan.kind == MigrationKind::Cold || next.phase == Phase::Finalize;
    turn.go(next)
}

/// Begins the next round: the importers of the round before go, the tasks start anew.
pub(super) fn add_checkpoint(turn: &Turn<'_>, to: Phase) -> Transition {
    let world = turn.world;
    let this = round(turn.state);
    let old: Vec<_> =
        world.target.imports.iter().filter(|i| i.seen.is_of(world.plan, world.vm) && i.round != this).collect();
    if let Some(first) = old.first() {
        let effects = old.iter().filter(|i| !i.seen.deleting).map(|i| Effect::Delete(i.seen.object.clone())).collect();
        return turn.stay(turn.state.clone(), effects, WaitCode::CleanUp, format!("{} to be gone", first.seen.object));
    }
    let mut next = turn.state.clone();
    let name = if to == Phase::Finalize { StepName::Cutover } else { StepName::DiskTransfer };
    if let Some(step) = pipeline::find(&mut next.pipeline, name) {
        restart(step);
    }
    let mut transition = turn.jump(next, to);
    transition.recheck = Recheck::Now;
    transition
}

fn restart(step: &mut Step) {
    for task in &mut step.tasks {
        for key in [pipeline::VERIFIED, pipeline::DIGEST, ATTEMPTS, REPLACED] {
            task.annotations.remove(key);
        }
        task.phase = StepPhase::Pending;
        task.started = None;
        task.completed = None;
        task.progress = Progress { completed: 0, ..task.progress };
    }
    step.task.phase = StepPhase::Running;
    step.task.completed = None;
    pipeline::sum_up(step);
}
