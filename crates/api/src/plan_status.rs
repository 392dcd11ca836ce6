//! What a plan remembers of its migrations: history, and for each VM the phase, the pipeline and what it waits for.
//!
//! ```text
//! MigrationRecord ─┬─ history: Snapshot…        one a migration; the last is the active one
//!                  └─ vms: VMStatus… ─┬─ phase, error, conditions, waitingOn
//!                                     ├─ pipeline: Step… ─ tasks: Task…      (one task a disk)
//!                                     └─ warm: Warm ─ precopies: Precopy…
//! ```

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::phase::Phase;
use crate::plan::PlanVM;
use crate::reference::{Ref, find_by_ref};
use crate::step::StepPhase;
use crate::wire::{unset, wire_enum};

/// When something began and ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timed {
    /// When it began.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub started: Option<Time>,
    /// When it ended, well or badly.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed: Option<Time>,
}

impl Timed {
    /// Forgets both times.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Notes the beginning, unless it is noted already.
    pub fn mark_started(&mut self, now: Timestamp) {
        if self.started.is_none() {
            self.started = Some(Time(now));
            self.completed = None;
        }
    }

    /// Notes the end, unless it is noted already.
    pub fn mark_completed(&mut self, now: Timestamp) {
        self.mark_started(now);
        if self.completed.is_none() {
            self.completed = Some(Time(now));
        }
    }

    /// Whether it has begun.
    pub fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// Whether it has ended.
    pub fn is_completed(&self) -> bool {
        self.completed.is_some()
    }

    /// Whether it has begun and not ended.
    pub fn is_running(&self) -> bool {
        self.is_started() && !self.is_completed()
    }
}

/// Why something failed, or what is not as it should be; each reason once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// The phase in which it happened.
    pub phase: String,
    /// What happened.
    pub reasons: Vec<String>,
}

impl ErrorReport {
    /// Adds a reason, unless it is there already.
    pub fn add(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// How much of how much is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// How much there is.
    pub total: i64,
    /// How much is done.
    pub completed: i64,
}

/// Something with progress: a disk, or a step as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// When it began and ended.
    #[serde(flatten)]
    pub timed: Timed,
    /// Its name, e.g. that of the disk.
    pub name: String,
    /// What it does, in a sentence.
    #[serde(default, skip_serializing_if = "unset")]
    pub description: String,
    /// Where it stands: Pending, Started, Running or Completed.
    #[serde(default, skip_serializing_if = "unset")]
    pub phase: Option<StepPhase>,
    /// What to know about it.
    #[serde(default, skip_serializing_if = "unset")]
    pub reason: String,
    /// How far it is.
    pub progress: Progress,
    /// More about it: the unit of its progress, the rate, the time left.
    #[serde(default, skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "unset")]
    pub error: Option<ErrorReport>,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "unset")]
    pub warning: Option<ErrorReport>,
}

impl Task {
    /// Returns a task that has not begun.
    pub fn new(name: impl Into<String>, description: impl Into<String>, total: i64) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            phase: Some(StepPhase::Pending),
            progress: Progress { total, completed: 0 },
            ..Self::default()
        }
    }

    /// Adds a reason why it failed.
    pub fn add_error(&mut self, reason: impl Into<String>) {
        let phase = self.phase.map(|phase| phase.to_string()).unwrap_or_default();
        self.error.get_or_insert_with(|| ErrorReport { phase, reasons: Vec::new() }).add(reason);
    }

    /// Adds something that is not as it should be.
    pub fn add_warning(&mut self, reason: impl Into<String>) {
        let phase = self.phase.map(|phase| phase.to_string()).unwrap_or_default();
        self.warning.get_or_insert_with(|| ErrorReport { phase, reasons: Vec::new() }).add(reason);
    }
}

/// A step of a VM's pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The step as a whole.
    #[serde(flatten)]
    pub task: Task,
    /// Its parts, e.g. one a disk.
    #[serde(default, skip_serializing_if = "unset")]
    pub tasks: Vec<Task>,
}

impl Step {
    /// Returns its part of that name.
    pub fn find_task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// Returns its part of that name, to be changed.
    pub fn find_task_mut(&mut self, name: &str) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.name == name)
    }

    /// Makes the step say what its parts say: progress, errors, begun when one has, ended when all have.
    pub fn reflect_tasks(&mut self, now: Timestamp) {
        self.task.progress.completed = self.tasks.iter().map(|task| task.progress.completed).sum();
        let reasons: Vec<String> =
            self.tasks.iter().filter_map(|task| task.error.as_ref()).flat_map(|error| error.reasons.clone()).collect();
        for reason in reasons {
            self.task.add_error(reason);
        }
        if self.tasks.iter().any(|task| task.timed.is_started()) {
            self.task.timed.mark_started(now);
        }
        if self.tasks.iter().all(|task| task.timed.is_completed()) {
            self.task.timed.mark_completed(now);
        }
    }
}

/// What a VM waits for: ours, upstream does not have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingOn {
    /// A stable word for programs.
    pub code: String,
    /// What to tell a person.
    pub message: String,
    /// Since when.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub since: Time,
}

wire_enum! {
    /// Whether a VM runs.
    VmPowerState, "power state", {
        /// It runs.
        On => "On",
        /// It does not.
        Off => "Off",
        /// Nobody knows.
        Unknown => "Unknown",
    } else Unknown
}

/// How far a VM is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VMStatus {
    /// When its migration began and ended.
    #[serde(flatten)]
    pub timed: Timed,
    /// The VM as the plan names it.
    #[serde(flatten)]
    pub vm: PlanVM,
    /// The steps.
    pub pipeline: Vec<Step>,
    /// The phase.
    pub phase: Phase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "unset")]
    pub error: Option<ErrorReport>,
    /// How its warm migration goes.
    #[serde(default, skip_serializing_if = "unset")]
    pub warm: Option<Warm>,
    /// Whether the source VM ran before the migration.
    #[serde(default, skip_serializing_if = "unset")]
    pub restore_power_state: Option<VmPowerState>,
    /// The guest's firmware, as the conversion found it.
    #[serde(default, skip_serializing_if = "unset")]
    pub firmware: String,
    /// The guest's system, as the conversion found it.
    #[serde(default, skip_serializing_if = "unset")]
    pub operating_system: String,
    /// The disk that the guest boots from, counted from 0, as the conversion found it.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::integer")]
    pub detected_boot_disk: Option<i64>,
    /// The target VM's name, where the source's cannot be used.
    #[serde(default, skip_serializing_if = "unset")]
    pub new_name: String,
    /// Whether all disks are copied, so that the conversion alone can be repeated.
    #[serde(default, skip_serializing_if = "unset")]
    pub disks_copied: bool,
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// What it waits for, while it does.
    #[serde(default, skip_serializing_if = "unset")]
    pub waiting_on: Option<WaitingOn>,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl VMStatus {
    /// Returns the VM's id and name.
    pub fn reference(&self) -> &Ref {
        &self.vm.reference
    }

    /// Returns a step by name.
    pub fn find_step(&self, name: &str) -> Option<&Step> {
        self.pipeline.iter().find(|step| step.task.name == name)
    }

    /// Returns a step by name, to be changed.
    pub fn find_step_mut(&mut self, name: &str) -> Option<&mut Step> {
        self.pipeline.iter_mut().find(|step| step.task.name == name)
    }

    /// Adds a reason why the migration failed.
    pub fn add_error(&mut self, reason: impl Into<String>) {
        let phase = self.phase.to_string();
        self.error.get_or_insert_with(|| ErrorReport { phase, reasons: Vec::new() }).add(reason);
    }

    /// Makes the VM say what its steps say: errors, begun when one has, ended when all have.
    pub fn reflect_pipeline(&mut self, now: Timestamp) {
        let reasons: Vec<String> = self
            .pipeline
            .iter()
            .filter_map(|step| step.task.error.as_ref())
            .flat_map(|error| error.reasons.clone())
            .collect();
        for reason in reasons {
            self.add_error(reason);
        }
        if self.pipeline.iter().any(|step| step.task.timed.is_started()) {
            self.timed.mark_started(now);
        }
        if self.pipeline.iter().all(|step| step.task.timed.is_completed()) {
            self.timed.mark_completed(now);
        }
    }
}

/// How a warm migration goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Warm {
    /// Copies that went well.
    #[schemars(schema_with = "crate::schema::integer")]
    pub successes: i64,
    /// Copies that failed.
    #[schemars(schema_with = "crate::schema::integer")]
    pub failures: i64,
    /// Copies that failed since the last that went well.
    #[schemars(schema_with = "crate::schema::integer")]
    pub consecutive_failures: i64,
    /// When the next copy begins.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub next_precopy_at: Option<Time>,
    /// The copies.
    #[serde(default, skip_serializing_if = "unset")]
    pub precopies: Vec<Precopy>,
}

/// One copy of a warm migration, from one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Precopy {
    /// When it began.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub start: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub end: Option<Time>,
    /// The source's id of the snapshot.
    #[serde(default, skip_serializing_if = "unset")]
    pub snapshot: String,
    /// The source's task that takes the snapshot.
    #[serde(default, skip_serializing_if = "unset")]
    pub create_task_id: String,
    /// The source's task that removes the snapshot.
    #[serde(default, skip_serializing_if = "unset")]
    pub remove_task_id: String,
    /// Where the next copy of each disk starts.
    #[serde(default, skip_serializing_if = "unset")]
    pub deltas: Vec<DiskDelta>,
}

/// Where the next copy of a disk starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskDelta {
    /// The disk.
    pub disk: String,
    /// The source's id of the state.
    pub delta_id: String,
}

/// An object as it was when a migration began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
}

impl SnapshotRef {
    /// Notes an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
        }
    }

    /// Whether it is the same object. A change of it does not make it another one.
    pub fn matches(&self, meta: &ObjectMeta) -> bool {
        Some(self.uid.as_str()) == meta.uid.as_deref()
    }
}

/// Source and destination as they were when a migration began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotRefPair {
    /// The source.
    pub source: SnapshotRef,
    /// The destination.
    pub destination: SnapshotRef,
}

/// The maps as they were when a migration began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotMap {
    /// The network map.
    pub network: SnapshotRef,
    /// The storage map.
    pub storage: SnapshotRef,
}

/// What a migration started from, and how it went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// How it went.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The providers.
    pub provider: SnapshotRefPair,
    /// The plan.
    pub plan: SnapshotRef,
    /// The maps.
    pub map: SnapshotMap,
    /// The migration.
    pub migration: SnapshotRef,
}

/// The migrations of a plan: the history, and the VMs of the present one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationRecord {
    /// When the present migration began and ended.
    #[serde(flatten)]
    pub timed: Timed,
    /// One entry a migration; the last is the active one.
    #[serde(default, skip_serializing_if = "unset")]
    pub history: Vec<Snapshot>,
    /// How far each VM is.
    #[serde(default, skip_serializing_if = "unset")]
    pub vms: Vec<VMStatus>,
}

impl MigrationRecord {
    /// Returns the active migration's entry.
    pub fn active_snapshot(&self) -> Option<&Snapshot> {
        self.history.last()
    }

    /// Returns the active migration's entry, to be changed.
    pub fn active_snapshot_mut(&mut self) -> Option<&mut Snapshot> {
        self.history.last_mut()
    }

    /// Returns the entry of a migration by its UID.
    pub fn snapshot_of(&self, migration_uid: &str) -> Option<&Snapshot> {
        self.history.iter().rev().find(|snapshot| snapshot.migration.uid == migration_uid)
    }

    /// Returns how far a VM is: by id, else by name among the VMs without an id.
    pub fn find_vm(&self, reference: &Ref) -> Option<&VMStatus> {
        find_by_ref(&self.vms, reference, VMStatus::reference)
    }
}
