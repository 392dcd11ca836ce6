//! The wire form of [`VmState`](super::state::VmState): upstream's `VMStatus`.
//!
//! Outcome, queueing and warnings are conditions there; the count of refused effects is an annotation (`retries`) of
//! the running (or last begun) pipeline step, so that it is visible and survives a restart.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::phase::{Phase, UnknownPhase};
use super::state::{Finding, Outcome, StateError, Step, StepPhase, VmError, VmState, WaitingOn, Warm, stamp};
use crate::machine::PowerState;

/// Annotation of a pipeline step with the count of refused effects.
const RETRIES: &str = "retries";
/// Condition of a queued VM.
const PENDING: &str = "Pending";
/// Condition of a VM whose conversion or optional steps left warnings.
const WARNINGS: &str = "ConversionHasWarnings";
/// Condition of a VM in which the inspection found something.
const CONCERNS: &str = "InspectionHasConcerns";
/// Condition of a VM whose restarts were not seen to end.
const RESTARTS: &str = "WaitForGuestReboots";

/// The fields of `VMStatus` that make up the state.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wire {
    id: Option<String>,
    name: Option<String>,
    phase: Option<String>,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    pipeline: Option<Vec<Step>>,
    error: Option<VmError>,
    conditions: Option<Vec<WireCondition>>,
    restore_power_state: Option<String>,
    warm: Option<Warm>,
    firmware: Option<String>,
    operating_system: Option<String>,
    detected_boot_disk: Option<usize>,
    new_name: Option<String>,
    disks_copied: Option<bool>,
    waiting_on: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct WireCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    category: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    items: Option<Vec<String>>,
}

impl Wire {
    pub(super) fn into_state(self) -> Result<VmState, UnknownPhase> {
        let phase = match self.phase.as_deref().unwrap_or_default() {
            "" => Phase::Started,
            name => name.parse()?,
        };
        let conditions = self.conditions.unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|c| c.kind == kind && c.status == "True");
        let outcome = Outcome::ALL.iter().copied().find(|o| condition(o.as_str()).is_some());
        let mut pipeline = self.pipeline.unwrap_or_default();
        let mut retries = 0;
        for step in &mut pipeline {
            if let Some(count) = step.task.annotations.remove(RETRIES) {
                retries = count.parse().unwrap_or(retries);
            }
        }
        Ok(VmState {
            id: self.id.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
            phase,
            outcome,
            started: self.started,
            completed: self.completed,
            pipeline,
            error: self.error.filter(|e| !e.reasons.is_empty()),
            pending: condition(PENDING).map(|c| c.message.clone().unwrap_or_default()),
            restore_power_state: match self.restore_power_state.as_deref() {
                Some("On") => Some(PowerState::On),
                Some("Off") => Some(PowerState::Off),
                Some("Unknown") => Some(PowerState::Unknown),
                Some(_) | None => None,
            },
            warm: self.warm,
            firmware: self.firmware.filter(|f| !f.is_empty()),
            operating_system: self.operating_system.filter(|f| !f.is_empty()),
            detected_boot_disk: self.detected_boot_disk,
            new_name: self.new_name.filter(|f| !f.is_empty()),
            disks_copied: self.disks_copied.unwrap_or_default(),
            // written by another version: not worth failing for, it is derived anew at the next step
            waiting_on: self.waiting_on.and_then(|w| serde_json::from_value::<WaitingOn>(w).ok()),
            retries,
            warnings: condition(WARNINGS).and_then(|c| c.items.clone()).unwrap_or_default(),
            findings: condition(CONCERNS).map(findings).unwrap_or_default(),
            restarts_unseen: condition(RESTARTS).map(|c| c.message.clone().unwrap_or_default()),
        })
    }
}

/// Merges `state` into the JSON of a `VMStatus`.
pub(super) fn merge(state: &VmState, status: &mut Value, now: Timestamp) -> Result<(), StateError> {
    if !status.is_object() {
        *status = Value::Object(Map::new());
    }
    let Some(object) = status.as_object_mut() else { return Ok(()) };
    let mut pipeline = state.pipeline.clone();
    if state.retries > 0 {
        // while settling no step runs any more: the last that was begun
        let running = pipeline.iter().position(|s| s.task.phase == StepPhase::Running);
        let at = running.or_else(|| pipeline.iter().rposition(|s| s.task.phase != StepPhase::Pending)).unwrap_or(0);
        if let Some(step) = pipeline.get_mut(at) {
            step.task.annotations.insert(RETRIES.into(), state.retries.to_string());
        }
    }
    let text = |value: &Option<String>| value.as_ref().map_or(Value::Null, |v| json!(v));
    let fields = [
        ("id", json!(state.id)),
        ("name", json!(state.name)),
        ("phase", json!(state.phase)),
        ("started", json!(state.started)),
        ("completed", json!(state.completed)),
        ("pipeline", serde_json::to_value(pipeline)?),
        ("error", json!(state.error)),
        ("restorePowerState", json!(state.restore_power_state)),
        ("warm", json!(state.warm)),
        ("firmware", text(&state.firmware)),
        ("operatingSystem", text(&state.operating_system)),
        ("detectedBootDisk", json!(state.detected_boot_disk)),
        ("newName", text(&state.new_name)),
        ("disksCopied", if state.disks_copied { json!(true) } else { Value::Null }),
        ("waitingOn", json!(state.waiting_on)),
    ];
    for (key, value) in fields {
        if value.is_null() {
            object.shift_remove(key);
        } else {
            object.insert(key.into(), value);
        }
    }
    let conditions = object.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        merge_conditions(state, list, now);
        if list.is_empty() {
            object.shift_remove("conditions");
        }
    }
    Ok(())
}

/// Reads the concerns from their condition; one without items is of somebody who keeps only one.
fn findings(condition: &WireCondition) -> Vec<Finding> {
    let read = |item: &String| {
        let (category, rest) = item.split_once(' ')?;
        let (id, message) = rest.split_once(": ")?;
        Some(Finding { category: category.into(), id: id.into(), message: message.into() })
    };
    match condition.items.as_deref() {
        Some(items) if !items.is_empty() => items.iter().filter_map(read).collect(),
        Some(_) | None => vec![Finding {
            category: condition.category.clone().unwrap_or_default(),
            id: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        }],
    }
}

/// Sets and removes the conditions that are derived from the state; the others stay.
fn merge_conditions(state: &VmState, list: &mut Vec<Value>, now: Timestamp) {
    let mut set = |kind: &str, wanted: Option<Value>| {
        let at = list.iter().position(|c| c["type"] == kind);
        match (at, wanted) {
            (Some(at), None) => drop(list.remove(at)),
            (None, None) => {}
            (at, Some(mut wanted)) => {
                // the transition time changes only when something that is compared changes
                let mut old = at.map(|at| list[at].clone()).unwrap_or(Value::Null);
                let since = old.as_object_mut().and_then(|o| o.shift_remove("lastTransitionTime"));
                let same = old.as_object().is_some_and(|old| {
                    wanted.as_object().is_some_and(|new| new.iter().all(|(k, v)| old.get(k) == Some(v)))
                });
                wanted["lastTransitionTime"] = match since {
                    Some(since) if same => since,
                    Some(_) | None => json!(stamp(now)),
                };
                match at {
                    Some(at) => list[at] = wanted,
                    None => list.push(wanted),
                }
            }
        }
    };
    for &outcome in Outcome::ALL {
        let wanted = (state.outcome == Some(outcome)).then(|| {
            let message = match outcome {
                Outcome::Succeeded => "The VM migration has SUCCEEDED.",
                Outcome::Failed => "The VM migration has FAILED.",
                Outcome::Canceled => "The migration has been canceled.",
            };
            json!({"type": outcome.as_str(), "status": "True", "category": "Advisory", "message": message, "durable": true})
        });
        set(outcome.as_str(), wanted);
    }
    let pending = state
        .pending
        .as_ref()
        .map(|message| json!({"type": PENDING, "status": "True", "category": "Advisory", "message": message}));
    set(PENDING, pending);
    let warnings = (!state.warnings.is_empty()).then(|| {
        json!({"type": WARNINGS, "status": "True", "category": "Warn", "durable": true,
            "message": "The conversion finished with warnings.", "items": state.warnings})
    });
    set(WARNINGS, warnings);
    // one condition a type: the worst concern gives it its category, all are its items
    let worst = state.findings.iter().min_by_key(|finding| finding.rank());
    let concerns = worst.map(|worst| {
        let items = state.findings.iter().map(|f| format!("{} {}: {}", f.category, f.id, f.message));
        json!({"type": CONCERNS, "status": "True", "category": worst.category, "reason": worst.id, "durable": true,
            "message": worst.message, "items": items.collect::<Vec<_>>()})
    });
    set(CONCERNS, concerns);
    let restarts = state.restarts_unseen.as_ref().map(
        |message| json!({"type": RESTARTS, "status": "True", "category": "Warn", "message": message, "durable": true}),
    );
    set(RESTARTS, restarts);
}
