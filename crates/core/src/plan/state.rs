//! What is stored of one VM's migration: an entry of `Plan.status.migration.vms`.
//!
//! [`VmState`] has the wire form of upstream's `VMStatus` (plus our `waitingOn`), so it is read from and merged into
//! the stored object as JSON: fields that this version does not know stay as they are.
//!
//! ```text
//!            outcome: None                     outcome: Some, completed: None        completed: Some
//!  running ── phases of the itinerary ──► settling: what is ours goes away, the ──► settled (phase Completed)
//!            success, failure, cancel      source is put back as it was found
//! ```
use std::collections::BTreeMap;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::phase::Phase;
use crate::machine::PowerState;
use crate::source::DiskDelta;

/// The stored state of one VM's migration. Everything else is observed.
#[derive(Clone, Debug, PartialEq)]
pub struct VmState {
    /// Id of the source VM.
    pub id: String,
    /// Name of the source VM.
    pub name: String,
    /// Where the migration is.
    pub phase: Phase,
    /// How it ends or ended; set before the settling starts.
    pub outcome: Option<Outcome>,
    /// When it left the queue.
    pub started: Option<Timestamp>,
    /// When it was settled.
    pub completed: Option<Timestamp>,
    /// What the user sees.
    pub pipeline: Vec<Step>,
    /// Why it failed.
    pub error: Option<VmError>,
    /// Queued because the in-flight limit is reached.
    pub pending: Option<String>,
    /// Power state in which the source was found.
    pub restore_power_state: Option<PowerState>,
    /// Snapshots and rounds of a warm migration.
    pub warm: Option<Warm>,
    /// Firmware that the conversion found (`bios`, `uefi`).
    pub firmware: Option<String>,
    /// Operating system that the conversion found.
    pub operating_system: Option<String>,
    /// Index of the disk that the conversion found to be the boot disk.
    pub detected_boot_disk: Option<usize>,
    /// Name of the target VM where it differs from the source's.
    pub new_name: Option<String>,
    /// All disks are copied and verified: the conversion can be run again without copying.
    pub disks_copied: bool,
    /// What it waits for.
    pub waiting_on: Option<WaitingOn>,
    /// Refused effects since the phase was entered.
    pub retries: u32,
    /// Warnings of the conversion and of optional steps.
    pub warnings: Vec<String>,
    /// What the inspection before the copy found.
    pub findings: Vec<Finding>,
    /// Why the restarts of the Windows guest were not seen to end.
    pub restarts_unseen: Option<String>,
}

/// A concern of the inspection before the copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters: `Critical`, `Error`, `Warning`, `Information` …; one word.
    pub category: String,
    /// Its id, one word.
    pub id: String,
    /// What is the matter and what to do about it.
    pub message: String,
}

impl Finding {
    /// Returns whether the VM must not be migrated with it.
    pub fn blocks(&self) -> bool {
        matches!(self.category.as_str(), "Critical" | "Error")
    }

    /// Returns its place among others: the worst first.
    pub fn rank(&self) -> usize {
        let order = ["Critical", "Error", "Warning", "Warn", "Advisory"];
        order.iter().position(|category| *category == self.category).unwrap_or(order.len())
    }
}

/// How a VM's migration ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The target VM exists on verified, converted disks.
    Succeeded,
    /// It failed; the disks are kept for a look.
    Failed,
    /// The user, or a change of the plan, ended it.
    Canceled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: &'static [Outcome] = &[Outcome::Succeeded, Outcome::Failed, Outcome::Canceled];

    /// Returns the condition type that shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "Succeeded",
            Outcome::Failed => "Failed",
            Outcome::Canceled => "Canceled",
        }
    }
}

/// A pipeline step: what users see of a group of phases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The step's own record.
    #[serde(flatten)]
    pub task: Task,
    /// One task per disk, where the step moves disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
}

/// A task: a disk, or the step itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Name; of a disk task the disk's key.
    pub name: String,
    /// Description for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Pending, Running or Completed.
    #[serde(default)]
    pub phase: StepPhase,
    /// Why it is where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was completed, successfully or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
    /// Progress; in MB where the annotation `unit` says so.
    #[serde(default)]
    pub progress: Progress,
    /// `unit`, `rate`, `eta`, `bytes…`, `digest`, `verified`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<VmError>,
    /// What did not go as it should, without failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<VmError>,
}

fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Phase of a pipeline step or task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepPhase {
    /// Not started.
    #[default]
    #[serde(alias = "")]
    Pending,
    /// In work.
    Running,
    /// Over, successfully or not.
    Completed,
}

/// Progress of a step or task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units in all.
    #[serde(default)]
    pub total: i64,
    /// Units done.
    #[serde(default)]
    pub completed: i64,
}

/// Reasons of a failure, tagged with the phase or step they appeared in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmError {
    /// Phase or step.
    #[serde(default)]
    pub phase: String,
    /// Reasons, each once.
    #[serde(default)]
    pub reasons: Vec<String>,
}

impl VmError {
    /// Adds a reason, once.
    pub fn add(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Rounds of a warm migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warm {
    /// Rounds that were copied.
    pub successes: u32,
    /// Failed attempts.
    pub failures: u32,
    /// Failed attempts since the last success.
    pub consecutive_failures: u32,
    /// When the next round is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_precopy_at: Option<Timestamp>,
    /// The rounds.
    pub precopies: Vec<Precopy>,
}

/// One round of a warm migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Precopy {
    /// When its snapshot was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// When its changes were copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// The snapshot's id in the source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot: String,
    /// Change identities per disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<DiskDelta>,
}

/// What a migration waits for, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingOn {
    /// Stable code, for `explain` and for programs.
    pub code: WaitCode,
    /// For people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// Stable codes of what a migration waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitCode {
    /// The provider or its inventory does not answer yet.
    Provider,
    /// Objects of an earlier run are being removed.
    EarlierRun,
    /// A hook's Job.
    Hook,
    /// The source to shut down.
    PowerOff,
    /// Objects on the target to appear.
    TargetObjects,
    /// A volume to be bound.
    Volume,
    /// Importers to copy and verify disks.
    Copy,
    /// A snapshot to be ready.
    Snapshot,
    /// A snapshot to be gone.
    SnapshotRemoval,
    /// The next round, or the cutover.
    Cutover,
    /// The conversion to be scheduled.
    ConversionPod,
    /// The guest conversion.
    Conversion,
    /// The inspection before the copy.
    Inspection,
    /// The restarts of a Windows guest.
    GuestRestarts,
    /// The target VM object.
    TargetVm,
    /// Our objects to be gone after the end.
    CleanUp,
    /// The source to be switched on again.
    PowerOn,
    /// A refused effect to be tried again.
    Retry,
}

impl VmState {
    /// Returns a new state at the first phase, not started.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            phase: Phase::Started,
            outcome: None,
            started: None,
            completed: None,
            pipeline: Vec::new(),
            error: None,
            pending: None,
            restore_power_state: None,
            warm: None,
            firmware: None,
            operating_system: None,
            detected_boot_disk: None,
            new_name: None,
            disks_copied: false,
            waiting_on: None,
            retries: 0,
            warnings: Vec::new(),
            findings: Vec::new(),
            restarts_unseen: None,
        }
    }

    /// Returns whether the migration runs (or settles) now.
    pub fn running(&self) -> bool {
        self.started.is_some() && self.completed.is_none()
    }

    /// Returns whether the end is decided and what is ours is being put in order.
    pub fn settling(&self) -> bool {
        self.outcome.is_some() && self.completed.is_none()
    }

    /// Reads the state from a stored `VMStatus`.
    pub fn from_status<S: Serialize>(status: &S) -> Result<Self, StateError> {
        let value = serde_json::to_value(status)?;
        let wire: Wire = serde_json::from_value(value)?;
        Ok(wire.into_state()?)
    }

    /// Returns `status` with this state merged in; fields that are not part of the state stay as they are.
    pub fn to_status<S: Serialize + DeserializeOwned>(&self, status: &S, now: Timestamp) -> Result<S, StateError> {
        let mut value = serde_json::to_value(status)?;
        self.merge_into(&mut value, now)?;
        Ok(serde_json::from_value(value)?)
    }

    /// Merges the state into a `VMStatus` in JSON.
    pub fn merge_into(&self, status: &mut Value, now: Timestamp) -> Result<(), StateError> {
        super::wire::merge(self, status, now)
    }
}

/// A stored state that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Its JSON does not fit.
    #[error("the stored state of the VM cannot be read")]
    Json(#[from] serde_json::Error),
    /// Its phase is of another version.
    #[error(transparent)]
    Phase(#[from] super::phase::UnknownPhase),
}

/// Returns the time as it is stored: whole seconds.
pub fn stamp(now: Timestamp) -> Timestamp {
    now.round(Unit::Second).unwrap_or(now)
}

pub(super) use super::wire::Wire;
