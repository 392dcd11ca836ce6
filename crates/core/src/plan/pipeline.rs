//! The pipeline: what users see of the phases. Several phases count for one step; a step that moves disks has one
//! task per disk, measured in MB.
use std::collections::BTreeMap;

use forklift_api::worker::{ImportPhase, ImportProgress, ImportResult};
use jiff::Timestamp;

use super::itinerary::{Facets, Itinerary};
use super::phase::Phase;
use super::state::{Progress, Step, StepPhase, Task, VmError, stamp};
use super::world::MigrationKind;
use crate::machine::Machine;

/// Annotation with the unit of a progress.
pub const UNIT: &str = "unit";
/// Annotation of a verified disk task.
pub const VERIFIED: &str = "verified";
/// Annotation with the digest of a copied disk.
pub const DIGEST: &str = "digest";
/// Annotation with the way in which a disk is read: `nfc`, `ranges` or `vddk`.
pub const METHOD: &str = "transferMethod";
/// Annotation that tells why it is read in this way.
pub const METHOD_REASON: &str = "transferReason";
const MIB: u64 = 1024 * 1024;

/// The steps of pipelines, with upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// Preparations, power-off, creation of volumes.
    Initialize,
    /// The pre-migration hook.
    PreHook,
    /// Preflight inspection.
    PreflightInspection,
    /// The copy.
    DiskTransfer,
    /// Volumes for virt-v2v.
    DiskAllocation,
    /// The conversion.
    ImageConversion,
    /// virt-v2v's copy.
    DiskTransferV2v,
    /// OpenStack images.
    ConvertOpenstackSnapshot,
    /// The cutover of a warm migration.
    Cutover,
    /// The target VM.
    VirtualMachineCreation,
    /// Restarts of a Windows guest.
    WaitForGuestReboots,
    /// Consolidation after the final snapshot.
    WaitForFinalSnapshotConsolidation,
    /// The post-migration hook.
    PostHook,
}

impl StepName {
    /// Returns the name as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            StepName::Initialize => "Initialize",
            StepName::PreHook => "PreHook",
            StepName::PreflightInspection => "PreflightInspection",
            StepName::DiskTransfer => "DiskTransfer",
            StepName::DiskAllocation => "DiskAllocation",
            StepName::ImageConversion => "ImageConversion",
            StepName::DiskTransferV2v => "DiskTransferV2v",
            StepName::ConvertOpenstackSnapshot => "ConvertOpenstackSnapshot",
            StepName::Cutover => "Cutover",
            StepName::VirtualMachineCreation => "VirtualMachineCreation",
            StepName::WaitForGuestReboots => "WaitForGuestReboots",
            StepName::WaitForFinalSnapshotConsolidation => "WaitForFinalSnapshotConsolidation",
            StepName::PostHook => "PostHook",
        }
    }

    /// Returns the description users see.
    pub fn description(self) -> &'static str {
        match self {
            StepName::Initialize => "Initialize migration.",
            StepName::PreHook => "Run pre-migration hook.",
            StepName::PreflightInspection => "Inspect VM before migration.",
            StepName::DiskTransfer => "Transfer disks.",
            StepName::DiskAllocation => "Allocate disks.",
            StepName::ImageConversion => "Convert image to kubevirt.",
            StepName::DiskTransferV2v => "Copy disks.",
            StepName::ConvertOpenstackSnapshot => "Convert OpenStack snapshot.",
            StepName::Cutover => "Finalize disk transfer.",
            StepName::VirtualMachineCreation => "Create VM.",
            StepName::WaitForGuestReboots => "Wait for Windows guest reboot after conversion.",
            StepName::WaitForFinalSnapshotConsolidation => "Wait for final snapshot consolidation.",
            StepName::PostHook => "Run post-migration hook.",
        }
    }

    /// Returns whether the step has a task per disk.
    pub fn moves_disks(self) -> bool {
        match self {
            StepName::DiskTransfer
            | StepName::DiskAllocation
            | StepName::DiskTransferV2v
            | StepName::ConvertOpenstackSnapshot
            | StepName::Cutover => true,
            StepName::Initialize
            | StepName::PreHook
            | StepName::PreflightInspection
            | StepName::ImageConversion
            | StepName::VirtualMachineCreation
            | StepName::WaitForGuestReboots
            | StepName::WaitForFinalSnapshotConsolidation
            | StepName::PostHook => false,
        }
    }
}

/// Returns the step a phase counts for; `None` for the end.
pub fn step_of(phase: Phase, kind: MigrationKind, facets: &Facets) -> Option<StepName> {
    let warm = kind == MigrationKind::Warm;
    Some(match phase {
        Phase::Started
        | Phase::CreateInitialSnapshot
        | Phase::WaitForInitialSnapshot
        | Phase::StoreInitialSnapshotDeltas => StepName::Initialize,
        Phase::CreateDataVolumes if facets.preflight => StepName::DiskTransfer,
        Phase::CreateDataVolumes => StepName::Initialize,
        Phase::StorePowerState | Phase::PowerOffSource | Phase::WaitForPowerOff if warm => StepName::Cutover,
        Phase::StorePowerState | Phase::PowerOffSource | Phase::WaitForPowerOff => StepName::Initialize,
        Phase::PreflightInspection => StepName::PreflightInspection,
        Phase::AllocateDisks => StepName::DiskAllocation,
        Phase::CopyDisks
        | Phase::CopyingPaused
        | Phase::RemovePreviousSnapshot
        | Phase::WaitForPreviousSnapshotRemoval
        | Phase::CreateSnapshot
        | Phase::WaitForSnapshot
        | Phase::StoreSnapshotDeltas
        | Phase::AddCheckpoint => StepName::DiskTransfer,
        Phase::ConvertOpenstackSnapshot => StepName::ConvertOpenstackSnapshot,
        Phase::RemovePenultimateSnapshot
        | Phase::WaitForPenultimateSnapshotRemoval
        | Phase::CreateFinalSnapshot
        | Phase::WaitForFinalSnapshot
        | Phase::AddFinalCheckpoint
        | Phase::Finalize
        | Phase::RemoveFinalSnapshot => StepName::Cutover,
        Phase::CreateGuestConversionPod | Phase::ConvertGuest => StepName::ImageConversion,
        Phase::CopyDisksVirtV2V => StepName::DiskTransferV2v,
        Phase::CreateVM => StepName::VirtualMachineCreation,
        Phase::WaitForGuestReboots => StepName::WaitForGuestReboots,
        Phase::PreHook => StepName::PreHook,
        Phase::PostHook => StepName::PostHook,
        Phase::WaitForFinalSnapshotRemoval => StepName::WaitForFinalSnapshotConsolidation,
        Phase::Completed => return None,
    })
}

/// Builds the pipeline of a VM from its itinerary.
pub fn build(itinerary: &Itinerary, kind: MigrationKind, facets: &Facets, machine: Option<&Machine>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for name in itinerary.phases(facets).filter_map(|phase| step_of(phase, kind, facets)) {
        if steps.iter().any(|s| s.task.name == name.as_str()) {
            continue;
        }
        let mut step = Step {
            task: Task {
                name: name.as_str().into(),
                description: name.description().into(),
                progress: Progress { total: 1, completed: 0 },
                ..Task::default()
            },
            tasks: Vec::new(),
        };
        if name.moves_disks()
            && let Some(machine) = machine
        {
            let unit = BTreeMap::from([(UNIT.to_owned(), "MB".to_owned())]);
            step.task.annotations = unit.clone();
            step.tasks = machine
                .disks
                .iter()
                .map(|disk| Task {
                    name: disk.key.clone(),
                    progress: Progress { total: megabytes(disk.capacity), completed: 0 },
                    annotations: unit.clone(),
                    ..Task::default()
                })
                .collect();
            step.task.progress.total = step.tasks.iter().map(|t| t.progress.total).sum();
        }
        steps.push(step);
    }
    steps
}

/// Returns bytes in whole MB, rounded up.
pub fn megabytes(bytes: u64) -> i64 {
    i64::try_from(bytes.div_ceil(MIB)).unwrap_or(i64::MAX)
}

/// Marks the step of a phase as running and all steps before it as completed. `None` completes all.
pub fn enter(pipeline: &mut [Step], name: Option<StepName>, now: Timestamp) {
    let at = match name {
        None => pipeline.len(),
        Some(name) => match pipeline.iter().position(|s| s.task.name == name.as_str()) {
            Some(at) => at,
            None => return,
        },
    };
    for step in &mut pipeline[..at] {
        complete(step, now);
    }
    if let Some(step) = pipeline.get_mut(at)
        && step.task.phase == StepPhase::Pending
    {
        step.task.phase = StepPhase::Running;
        step.task.started = Some(stamp(now));
    }
}

fn complete(step: &mut Step, now: Timestamp) {
    let finished = step.task.phase == StepPhase::Completed;
    if finished {
        return;
    }
    step.task.started.get_or_insert(stamp(now));
    step.task.completed = Some(stamp(now));
    step.task.phase = StepPhase::Completed;
    step.task.progress.completed = step.task.progress.total;
    for task in &mut step.tasks {
        if task.phase != StepPhase::Completed {
            task.started.get_or_insert(stamp(now));
            task.completed = Some(stamp(now));
            task.phase = StepPhase::Completed;
            task.progress.completed = task.progress.total;
        }
    }
}

/// Ends what is running where it is, for a VM that failed or was canceled. `reasons` is the step's error.
pub fn stop(pipeline: &mut [Step], reasons: &[String], now: Timestamp) {
    for step in pipeline.iter_mut().filter(|s| s.task.phase == StepPhase::Running) {
        if !reasons.is_empty() {
            let mut error = step
                .task
                .error
                .take()
                .unwrap_or_else(|| VmError { phase: step.task.name.clone(), ..VmError::default() });
            reasons.iter().for_each(|reason| error.add(reason));
            step.task.error = Some(error);
        }
        step.task.phase = StepPhase::Completed;
        step.task.completed = Some(stamp(now));
        for task in step.tasks.iter_mut().filter(|t| t.phase == StepPhase::Running) {
            task.phase = StepPhase::Completed;
            task.completed = Some(stamp(now));
        }
    }
}

/// Returns the step of this name.
pub fn find(pipeline: &mut [Step], name: StepName) -> Option<&mut Step> {
    pipeline.iter_mut().find(|s| s.task.name == name.as_str())
}

/// Shows an importer's progress on its disk's task.
pub fn show_progress(task: &mut Task, progress: &ImportProgress, now: Timestamp) {
    task.phase = StepPhase::Running;
    task.started.get_or_insert(stamp(now));
    if progress.bytes_total > 0 {
        task.progress.total = megabytes(progress.bytes_total);
    }
    // the last MB is shown when the copy is verified
    let done = i64::try_from(progress.bytes_done / MIB).unwrap_or(i64::MAX);
    task.progress.completed = done.min(task.progress.total).max(0);
    task.reason = Some(
        match progress.phase {
            ImportPhase::Preparing => "Preparing",
            ImportPhase::Copying => "Copying",
            ImportPhase::Verifying => "Verifying",
            ImportPhase::Done => "Done",
            ImportPhase::Failed => "Failed",
        }
        .into(),
    );
    let mut note = |key: &str, value: String| drop(task.annotations.insert(key.into(), value));
    note("rate", format!("{:.0}", progress.rate.max(0.0)));
    note("bytesTotal", progress.bytes_total.to_string());
    note("bytesDone", progress.bytes_done.to_string());
    note("bytesWritten", progress.bytes_written.to_string());
    note("bytesSkipped", progress.bytes_skipped.to_string());
    note("bytesResumed", progress.bytes_resumed.to_string());
    show_method(task, progress.method.as_ref(), progress.method_reason.as_ref());
    let mut note = |key: &str, value: String| drop(task.annotations.insert(key.into(), value));
    match progress.eta_seconds {
        Some(eta) => note("eta", eta.to_string()),
        None => drop(task.annotations.remove("eta")),
    }
}

/// Shows how a disk is read where there are several ways, and why so; what was told before stays.
fn show_method(task: &mut Task, method: Option<&String>, reason: Option<&String>) {
    if let Some(method) = method {
        task.annotations.insert(METHOD.into(), method.clone());
        match reason {
            Some(reason) => drop(task.annotations.insert(METHOD_REASON.into(), reason.clone())),
            None => drop(task.annotations.remove(METHOD_REASON)),
        }
    }
}

/// Shows an importer's successful result on its disk's task.
pub fn show_result(task: &mut Task, result: &ImportResult, now: Timestamp) {
    task.started.get_or_insert(stamp(now));
    task.completed = Some(stamp(now));
    task.phase = StepPhase::Completed;
    task.reason = None;
    if result.bytes_total > 0 {
        task.progress.total = megabytes(result.bytes_total);
    }
    task.progress.completed = task.progress.total;
    task.annotations.remove("eta");
    show_method(task, result.method.as_ref(), result.method_reason.as_ref());
    let mut note = |key: &str, value: String| drop(task.annotations.insert(key.into(), value));
    if let Some(digest) = &result.digest {
        note(DIGEST, digest.clone());
    }
    note(VERIFIED, result.verified.to_string());
    note("bytesTotal", result.bytes_total.to_string());
    note("bytesDone", result.bytes_total.to_string());
    note("bytesWritten", result.bytes_written.to_string());
    note("bytesResumed", result.bytes_resumed.to_string());
    note("seconds", format!("{:.1}", result.seconds));
}

/// Sums the tasks of a step up: progress, rate, and the time that the slowest disk still needs.
pub fn sum_up(step: &mut Step) {
    if step.tasks.is_empty() {
        return;
    }
    step.task.progress.total = step.tasks.iter().map(|t| t.progress.total).sum();
    step.task.progress.completed = step.tasks.iter().map(|t| t.progress.completed).sum();
    let running = || step.tasks.iter().filter(|t| t.phase == StepPhase::Running);
    let number = |task: &Task, key: &str| task.annotations.get(key).and_then(|v| v.parse::<u64>().ok());
    let rate: u64 = running().filter_map(|t| number(t, "rate")).sum();
    let eta = running().filter_map(|t| number(t, "eta")).max();
    let done = step.tasks.iter().all(|t| t.phase == StepPhase::Completed);
    let annotations = &mut step.task.annotations;
    match eta {
        Some(eta) if !done => drop(annotations.insert("eta".into(), eta.to_string())),
        Some(_) | None => drop(annotations.remove("eta")),
    }
    if !done {
        annotations.insert("rate".into(), rate.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::itinerary::{COLD, WARM};
    use super::*;
    use crate::machine::Disk;

    fn machine() -> Machine {
        let disk = |key: &str, mb: u64| Disk { key: key.into(), capacity: mb * MIB, ..Disk::default() };
        Machine { disks: vec![disk("a", 10), disk("b", 20)], ..Machine::default() }
    }

    #[test]
    fn the_pipeline_of_an_appliance() {
        let facets = Facets { conversion: true, ..Facets::default() };
        let pipeline = build(&COLD, MigrationKind::Cold, &facets, Some(&machine()));
        let names: Vec<_> =
            pipeline.iter().map(|s| (s.task.name.as_str(), s.task.progress.total, s.tasks.len())).collect();
        assert_eq!(
            names,
            [
                ("Initialize", 1, 0),
                ("DiskTransfer", 30, 2),
                ("ImageConversion", 1, 0),
                ("VirtualMachineCreation", 1, 0)
            ]
        );
    }

    #[test]
    fn warm_has_a_cutover_step() {
        let pipeline =
            build(&WARM, MigrationKind::Warm, &Facets { snapshot_tasks: true, ..Facets::default() }, Some(&machine()));
        let names: Vec<_> = pipeline.iter().map(|s| s.task.name.as_str()).collect();
        assert_eq!(names, ["Initialize", "DiskTransfer", "Cutover", "VirtualMachineCreation"]);
    }

    #[test]
    fn entering_a_step_completes_those_before() {
        let now = Timestamp::UNIX_EPOCH;
        let mut pipeline = build(&COLD, MigrationKind::Cold, &Facets::default(), Some(&machine()));
        enter(&mut pipeline, Some(StepName::DiskTransfer), now);
        let phases: Vec<_> = pipeline.iter().map(|s| s.task.phase).collect();
        assert_eq!(phases, [StepPhase::Completed, StepPhase::Running, StepPhase::Pending]);
        enter(&mut pipeline, None, now);
        assert!(
            pipeline
                .iter()
                .all(|s| s.task.phase == StepPhase::Completed && s.task.progress.completed == s.task.progress.total)
        );
    }
}
