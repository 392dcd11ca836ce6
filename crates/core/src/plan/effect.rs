//! What a step wants done: idempotent and named, so that doing it twice equals doing it once.
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::VmIdentity;

/// Something to be done by the shell. Applying an effect that was applied already succeeds.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create the object unless one of this name exists. One that exists and is not the same by
    /// [`is_same`](crate::safety::is_same) is not touched: [`EffectError::NotOurs`].
    Ensure(Box<TargetObject>),
    /// Create a Secret with the data of another one, or bring its data up to date. One of this name that is not the
    /// same by [`is_same`](crate::safety::is_same) is not touched: [`EffectError::NotOurs`].
    CopySecret {
        /// Namespace of the one that is copied.
        namespace: String,
        /// Name of the one that is copied.
        name: String,
        /// The copy, without data.
        to: Box<TargetObject>,
    },
    /// Create a ConfigMap with the data of another one. One of this name that is not the same by
    /// [`is_same`](crate::safety::is_same) is not touched: [`EffectError::NotOurs`].
    CopyConfigMap {
        /// Namespace of the one that is copied.
        namespace: String,
        /// Name of the one that is copied.
        name: String,
        /// The copy, without data.
        to: Box<TargetObject>,
    },
    /// Add an owner reference to an object of ours.
    Adopt {
        /// The object, with its UID.
        object: ObjectRef,
        /// The owner, with its UID.
        owner: ObjectRef,
    },
    /// Delete the object (foreground, with its UID as a precondition). One that is gone is a success.
    Delete(ObjectRef),
    /// Shut the source VM down.
    PowerOff(VmIdentity),
    /// Start the source VM again.
    PowerOn(VmIdentity),
    /// Take a snapshot of this name unless there is one.
    EnsureSnapshot {
        /// The source VM.
        vm: VmIdentity,
        /// Derived from migration UID and index.
        name: String,
    },
    /// Remove the snapshot of this name if there is one.
    RemoveSnapshot {
        /// The source VM.
        vm: VmIdentity,
        /// Derived from migration UID and index.
        name: String,
    },
    /// Tell what happened in a Kubernetes Event on the plan.
    Event {
        /// Whether it is a warning.
        warning: bool,
        /// CamelCase reason.
        reason: String,
        /// For people.
        message: String,
    },
}

/// An object to be created, complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetObject {
    /// `v1`, `batch/v1` …
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; `None` for cluster-wide kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// The whole manifest, apiVersion, kind and metadata included.
    pub json: Value,
}

impl TargetObject {
    /// Returns the object that a manifest describes; what it lacks is left empty.
    pub fn new(json: Value) -> Self {
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: Some(text("/metadata/namespace")).filter(|n| !n.is_empty()),
            name: text("/metadata/name"),
            json,
        }
    }

    /// Returns the value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.json.pointer("/metadata/labels")?.get(key)?.as_str()
    }
}

/// Reference to an object that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// `v1`, `batch/v1` …
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; `None` for cluster-wide kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Ensure(object) => match &object.namespace {
                Some(namespace) => write!(f, "ensure {} {namespace}/{}", object.kind, object.name),
                None => write!(f, "ensure {} {}", object.kind, object.name),
            },
            Effect::CopySecret { namespace, name, to } => {
                let place = to.namespace.as_deref().unwrap_or_default();
                write!(f, "copy Secret {namespace}/{name} to {place}/{}", to.name)
            }
            Effect::CopyConfigMap { namespace, name, to } => {
                let place = to.namespace.as_deref().unwrap_or_default();
                write!(f, "copy ConfigMap {namespace}/{name} to {place}/{}", to.name)
            }
            Effect::Adopt { object, owner } => write!(f, "adopt {object} by {owner}"),
            Effect::Delete(object) => write!(f, "delete {object}"),
            Effect::PowerOff(vm) => write!(f, "power off {} ({})", vm.name, vm.id),
            Effect::PowerOn(vm) => write!(f, "power on {} ({})", vm.name, vm.id),
            Effect::EnsureSnapshot { vm, name } => write!(f, "ensure snapshot {name} of {}", vm.name),
            Effect::RemoveSnapshot { vm, name } => write!(f, "remove snapshot {name} of {}", vm.name),
            Effect::Event { reason, message, .. } => write!(f, "event {reason}: {message}"),
        }
    }
}

/// Why an effect was not applied: what it means is decided by [`refused`](super::step::refused).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// The API or the source does not answer, or is not ready: tried again, not counted.
    #[error("not available now: {0}")]
    Unavailable(String),
    /// Somebody else was faster or something else is being done: tried again, not counted.
    #[error("busy: {0}")]
    Conflict(String),
    /// An object of this name exists and is not ours; it was not touched.
    #[error("{0} exists and does not belong to this migration")]
    NotOurs(String),
    /// The object is not valid, or its creation is forbidden (admission, quota, rights): another attempt does not help.
    #[error("refused: {0}")]
    Rejected(String),
    /// The safety rules do not permit it.
    #[error("not permitted: {0}")]
    Forbidden(String),
    /// Anything else: counted, and given up after some attempts.
    #[error("{0}")]
    Failed(String),
}
