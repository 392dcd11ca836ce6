//! One status write per pass: staging of conditions, the write itself, and what errors mean.
//!
//! ```text
//!  begin(object) ─► pass sets conditions ─► finish ─┬─ nothing changed: no write
//!                                                   ├─ merge patch of what changed, at the resourceVersion that was read
//!                                                   │     └─ 409: the view was stale: drop the result, observe again
//!                                                   └─ one Event per condition that came, changed or went
//! ```
//! The patch holds only what differs, so fields that this version does not know survive.
use std::fmt::Debug;
use std::time::Duration;

use forklift_api::Condition;
use forklift_api::condition::Conditions;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::apply::{ApplyError, MANAGER};
use super::event;

/// How soon a pass whose result was dropped runs again.
pub const FAST: Duration = Duration::from_millis(500);
/// How soon a pass runs again while something is in work.
pub const SLOW: Duration = Duration::from_secs(3);
/// How soon a settled object is looked at again.
pub const LONG: Duration = Duration::from_secs(30);

/// What an error in a pass means.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Try again after a while; the status stays as it is.
    Retry(Duration),
    /// The object cannot go on until something changes; the condition says what.
    Blocked(Condition),
    /// The work has failed; the condition says why.
    Failed(Condition),
}

/// An error that ended a pass, and what is done about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReconcileError {
    message: String,
    /// What is done about it.
    pub disposition: Disposition,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// An expected race, not worth a warning.
    quiet: bool,
}

impl ReconcileError {
    /// The pass is repeated soon.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { message: message.into(), disposition: Disposition::Retry(SLOW), source: None, quiet: false }
    }

    /// The object was changed by somebody else while the pass ran: its result is dropped.
    pub fn stale() -> Self {
        Self {
            message: "the object changed meanwhile".to_owned(),
            disposition: Disposition::Retry(FAST),
            source: None,
            quiet: true,
        }
    }

    /// The object waits for somebody to change something.
    pub fn blocked(condition: Condition) -> Self {
        let message = condition.message.clone();
        Self { message, disposition: Disposition::Blocked(condition), source: None, quiet: false }
    }

    /// The work has failed.
    pub fn failed(condition: Condition) -> Self {
        let message = condition.message.clone();
        Self { message, disposition: Disposition::Failed(condition), source: None, quiet: false }
    }

    /// Returns when the pass is repeated.
    pub fn retry_after(&self) -> Duration {
        match &self.disposition {
            Disposition::Retry(after) => *after,
            Disposition::Blocked(_) => SLOW,
            Disposition::Failed(_) => LONG,
        }
    }

    /// Logs the error: the one place where that is done.
    pub fn log(&self, kind: &str, meta: &ObjectMeta) {
        let name = super::apply::display_name(meta);
        let cause = self.source.as_deref().map(ToString::to_string);
        if self.quiet {
            tracing::debug!(kind, name, "{}", self.message);
        } else {
            tracing::warn!(kind, name, cause, "{}", self.message);
        }
    }
}

impl From<ApplyError> for ReconcileError {
    fn from(error: ApplyError) -> Self {
        Self {
            message: error.to_string(),
            disposition: Disposition::Retry(SLOW),
            source: Some(Box::new(error)),
            quiet: false,
        }
    }
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self {
            message: "the API server did not do what was asked".to_owned(),
            disposition: Disposition::Retry(SLOW),
            source: Some(Box::new(error)),
            quiet: false,
        }
    }
}

/// A kind of ours whose status carries conditions.
pub trait Conditioned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Its status.
    type Status: Serialize + Clone + Default + PartialEq + Send + Sync;

    /// Returns the stored status.
    fn stored(&self) -> Option<&Self::Status>;
    /// Returns the conditions of a status.
    fn conditions(status: &Self::Status) -> &Conditions;
    /// Returns the conditions of a status, to be changed.
    fn conditions_mut(status: &mut Self::Status) -> &mut Conditions;
    /// Sets the generation that the status is about.
    fn observe_generation(status: &mut Self::Status, generation: i64);
}

macro_rules! conditioned {
    ($($kind:ty => $status:ty),+ $(,)?) => {$(
        impl Conditioned for $kind {
            type Status = $status;

            fn stored(&self) -> Option<&Self::Status> {
                self.status.as_ref()
            }

            fn conditions(status: &Self::Status) -> &Conditions {
                &status.conditions
            }

            fn conditions_mut(status: &mut Self::Status) -> &mut Conditions {
                &mut status.conditions
            }

            fn observe_generation(status: &mut Self::Status, generation: i64) {
                status.observed_generation = generation;
            }
        }
    )+};
}
conditioned! {
    forklift_api::Provider => forklift_api::provider::ProviderStatus,
    forklift_api::NetworkMap => forklift_api::map::MapStatus,
    forklift_api::StorageMap => forklift_api::map::MapStatus,
    forklift_api::Hook => forklift_api::hook::HookStatus,
    forklift_api::Host => forklift_api::host::HostStatus,
    forklift_api::Plan => forklift_api::plan::PlanStatus,
    forklift_api::Migration => forklift_api::migration::MigrationStatus,
    forklift_api::Conversion => forklift_api::conversion::ConversionStatus,
}

impl Conditioned for forklift_api::OVAProviderServer {
    type Status = forklift_api::server::ProviderServerStatus;

    fn stored(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }

    fn conditions(status: &Self::Status) -> &Conditions {
        &status.conditions
    }

    fn conditions_mut(status: &mut Self::Status) -> &mut Conditions {
        &mut status.conditions
    }

    // Upstream's status has no such field; its spec never changes.
    fn observe_generation(_: &mut Self::Status, _: i64) {}
}

/// A pass over one object: the status as it was read and as it becomes.
pub struct Pass<'a, K: Conditioned> {
    /// The object as it was read.
    pub object: &'a K,
    /// The status as it becomes.
    pub status: K::Status,
    /// When the pass began: the one time that everything in it uses.
    pub now: Timestamp,
    client: Client,
}

impl<'a, K: Conditioned> Pass<'a, K> {
    /// Opens a pass: conditions are staged.
    pub fn begin(client: &Client, object: &'a K, now: Timestamp) -> Self {
        let mut status = object.stored().cloned().unwrap_or_default();
        K::conditions_mut(&mut status).begin_staging();
        Self { object, status, now, client: client.clone() }
    }

    /// Sets a condition.
    pub fn set(&mut self, condition: Condition) {
        K::conditions_mut(&mut self.status).set(condition, self.now);
    }

    /// Returns the conditions set so far.
    pub fn conditions(&self) -> &Conditions {
        K::conditions(&self.status)
    }

    /// Takes a condition away.
    pub fn remove(&mut self, type_: &str) {
        K::conditions_mut(&mut self.status).remove(type_);
    }

    /// Closes the pass: writes what changed, tells events, and turns an error into what it means.
    pub async fn finish(self, result: Result<Action, ReconcileError>) -> Result<Action, ReconcileError> {
        let (client, object) = (self.client.clone(), self.object);
        let (action, status) = self.close(result)?;
        write(&client, object, &status).await?;
        Ok(action)
    }

    /// Ends the staging; returns what is to be written, or the error that leaves the status as it is.
    pub fn close(mut self, result: Result<Action, ReconcileError>) -> Result<(Action, K::Status), ReconcileError> {
        let action = match result {
            Ok(action) => action,
            Err(error) => match &error.disposition {
                // Half a pass says nothing about the conditions it did not reach: the status stays.
                Disposition::Retry(_) => return Err(error),
                Disposition::Blocked(condition) | Disposition::Failed(condition) => {
                    self.set(condition.clone());
                    error.log(&K::kind(&()), self.object.meta());
                    Action::requeue(error.retry_after())
                }
            },
        };
        K::conditions_mut(&mut self.status).end_staging();
        K::observe_generation(&mut self.status, self.object.meta().generation.unwrap_or(0));
        Ok((action, self.status))
    }
}

/// Writes a status where it differs from the stored one. Returns the object as it is now stored, if it was written.
pub async fn write<K: Conditioned>(
    client: &Client,
    object: &K,
    status: &K::Status,
) -> Result<Option<K>, ReconcileError> {
    let encode = |status: &K::Status| {
        serde_json::to_value(status).map_err(|error| ReconcileError::retry(format!("encoding the status: {error}")))
    };
    let before = match object.stored() {
        Some(stored) => encode(stored)?,
        None => Value::Object(Map::new()),
    };
    let Some(change) = difference(&before, &encode(status)?) else { return Ok(None) };
    let patch = json!({"metadata": {"resourceVersion": object.resource_version()}, "status": change});
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let written = match api.patch_status(&object.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(written) => written,
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => return Err(ReconcileError::stale()),
        Err(error) => return Err(error.into()),
    };
    let none = Conditions::default();
    let old = object.stored().map_or(&none, K::conditions);
    event::publish(client, object, &K::conditions(status).changes_since(old));
    Ok(Some(written))
}

/// Returns the JSON merge patch that turns `before` into `after`; `None` when they are equal.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let mut change = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                change.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                match old.get(key) {
                    None => {
                        change.insert(key.clone(), value.clone());
                    }
                    Some(known) => {
                        if let Some(inner) = difference(known, value) {
                            change.insert(key.clone(), inner);
                        }
                    }
                }
            }
            (!change.is_empty()).then_some(Value::Object(change))
        }
        _ if before == after => None,
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_only_what_differs() {
        let before = json!({"a": 1, "b": {"c": 1, "d": 2}, "list": [1, 2], "gone": true});
        let after = json!({"a": 1, "b": {"c": 1, "d": 3}, "list": [1], "new": "x"});
        let change = json!({"b": {"d": 3}, "list": [1], "new": "x", "gone": null});
        assert_eq!(difference(&before, &after), Some(change));
        assert_eq!(difference(&before, &before), None);
    }
}
