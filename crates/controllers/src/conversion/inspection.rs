//! A DeepInspection: a guest is looked at where it is, at a snapshot.
//!
//! ```text
//! own snapshot    CreatingSnapshot ─► WaitingForSnapshot ─► CreatingPod ─► PodRunning ─► FetchingResults ─┐
//!                        └── an error ───────────┴───────────────┴─────────────┴───────────────┴─────────┤
//!                                       Finished ◄─ WaitingForSnapshotRemoval ◄─ RemovingSnapshot ◄──────┘
//! SNAPSHOT_MOREF given                             CreatingPod ─► PodRunning ─► FetchingResults ─► Finished
//! ```
//! A snapshot of our own is removed whatever happened: the error is kept in `status.result` until that is done. Its name
//! is made of the conversion's UID, so that a crash never makes a second one, and it is found without the status.
use std::sync::Arc;

use forklift_api::condition::types;
use forklift_api::conversion::{
    ConversionPhase, ConversionStage, InspectionResult, SETTING_SNAPSHOT_MOREF, SnapshotStatus,
};
use forklift_api::worker::{InspectionReport, READY_PATH, RESULTS_PATH, WorkerError};
use forklift_api::{Category, Condition, Conversion};
use forklift_core::names;
use forklift_core::source::{InspectionSnapshots, SourceError};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use super::pod;
use crate::context::{Context, secret_data};
use crate::shell::apply::{ApplyError, create, delete};
use crate::shell::status::{FAST, Pass, ReconcileError, SLOW};
use crate::worker;

/// How long a source that does not answer, or is busy, is waited for before a snapshot is given up.
const PATIENCE_SECONDS: i64 = 600;

/// What came of a stage.
enum Turn {
    /// The next stage.
    Next,
    /// The same stage later; what it waits for.
    Wait(String),
    /// It cannot go on.
    Error(WorkerError),
}

/// Whether the conversion takes its own snapshot.
pub(super) fn takes_its_own(conversion: &Conversion) -> bool {
    given(conversion).is_none()
}

/// The snapshot that somebody else took and will remove.
fn given(conversion: &Conversion) -> Option<&str> {
    conversion.spec.settings.get(SETTING_SNAPSHOT_MOREF).map(|id| id.trim()).filter(|id| !id.is_empty())
}

/// The name of a conversion's own snapshot.
fn snapshot_name(conversion: &Conversion) -> String {
    format!("forklift-inspection-{}", names::short(&[&conversion.uid().unwrap_or_default()]))
}

/// Whether its user ended it, and it is not in order yet.
pub(super) fn is_to_be_ended(conversion: &Conversion) -> bool {
    let status = conversion.status.as_ref();
    status.is_some_and(|s| s.phase == Some(ConversionPhase::Canceled) && s.completion_time.is_none())
}

/// Goes on by as many stages as can be gone now.
pub(super) async fn advance(context: &Context, pass: &mut Pass<'_, Conversion>) -> Result<Action, ReconcileError> {
    let conversion = pass.object;
    let owned = takes_its_own(conversion);
    if pass.status.start_time.is_none() {
        pass.status.start_time = Some(Time(pass.now));
    }
    pass.status.phase = Some(ConversionPhase::Running);
    let first = if owned { ConversionStage::CreatingSnapshot } else { ConversionStage::CreatingPod };
    let stage = *pass.status.stage.get_or_insert(first);
    if pass.status.snapshot.is_none() && pass.status.completion_time.is_none() {
        let moref = given(conversion).unwrap_or_default().to_owned();
        pass.status.snapshot = Some(SnapshotStatus { moref, owned, ..SnapshotStatus::default() });
    }
    let turn = match stage {
        ConversionStage::CreatingSnapshot | ConversionStage::WaitingForSnapshot => take(context, pass).await,
        ConversionStage::CreatingPod | ConversionStage::PodRunning => run(context, pass).await?,
        ConversionStage::FetchingResults => fetch(context, pass).await?,
        ConversionStage::RemovingSnapshot | ConversionStage::WaitingForSnapshotRemoval => remove(context, pass).await?,
        ConversionStage::Finished => Turn::Next,
    };
    Ok(match turn {
        Turn::Wait(message) => {
            super::say(pass, &message);
            Action::requeue(SLOW)
        }
        Turn::Next => {
            let next = following(stage, owned);
            pass.status.stage = Some(next);
            if stage == ConversionStage::Finished || next == ConversionStage::Finished {
                finish(pass);
                return Ok(Action::await_change());
            }
            Action::requeue(FAST)
        }
        Turn::Error(error) => {
            tracing::warn!(conversion = conversion.name_any(), code = error.code, "{}", error.message);
            let removing =
                matches!(stage, ConversionStage::RemovingSnapshot | ConversionStage::WaitingForSnapshotRemoval);
            let result = pass.status.result.get_or_insert_default();
            result.error.get_or_insert(error);
            if owned && !removing && pass.status.snapshot.is_some() {
                pass.status.stage = Some(ConversionStage::RemovingSnapshot);
                return Ok(Action::requeue(FAST));
            }
            pass.status.stage = Some(ConversionStage::Finished);
            finish(pass);
            Action::await_change()
        }
    })
}

/// Returns the stage after one that went well.
fn following(stage: ConversionStage, owned: bool) -> ConversionStage {
    match stage {
        ConversionStage::CreatingSnapshot | ConversionStage::WaitingForSnapshot => ConversionStage::CreatingPod,
        ConversionStage::CreatingPod | ConversionStage::PodRunning => ConversionStage::FetchingResults,
        ConversionStage::FetchingResults if owned => ConversionStage::RemovingSnapshot,
        ConversionStage::RemovingSnapshot
        | ConversionStage::WaitingForSnapshotRemoval
        | ConversionStage::FetchingResults
        | ConversionStage::Finished => ConversionStage::Finished,
    }
}

fn finish(pass: &mut Pass<'_, Conversion>) {
    let result = pass.status.result.take().unwrap_or_default();
    super::finish(pass, result);
}

/// Logs in by the connection secret.
async fn connect(context: &Context, conversion: &Conversion) -> Result<Arc<dyn InspectionSnapshots>, SourceError> {
    let mut reference = conversion.spec.connection.secret.clone();
    reference.namespace.get_or_insert_with(|| conversion.spec.target_namespace.clone());
    let name = reference.name.clone().unwrap_or_default();
    let secret = context.secret(&reference).await.map_err(|error| SourceError::NotReady(error.to_string()))?;
    let Some(secret) = secret else { return Err(SourceError::NotFound(format!("connection secret {name}"))) };
    context.providers().inspection(&secret_data(&secret)).await
}

/// Takes the conversion's own snapshot.
async fn take(context: &Context, pass: &mut Pass<'_, Conversion>) -> Turn {
    let conversion = pass.object;
    let name = snapshot_name(conversion);
    let taken = match connect(context, conversion).await {
        Ok(source) => source.take(&conversion.spec.vm.id, &name).await,
        Err(SourceError::NotFound(what)) => {
            let message = "DeepInspection requires a Connection secret when the controller owns snapshots.";
            pass.set(Condition::new(types::CONNECTION_SECRET_NOT_SET, Category::Critical, message));
            // nothing was taken, and nothing could be removed
            pass.status.snapshot = None;
            return Turn::Error(WorkerError::new(
                "ConnectionSecretNotSet",
                format!("{what} does not exist"),
                "create it",
                false,
            ));
        }
        Err(error) => Err(error),
    };
    match taken {
        Ok(Some(found)) if found.ready => {
            pass.status.snapshot = Some(SnapshotStatus { moref: found.id, owned: true, ..SnapshotStatus::default() });
            Turn::Next
        }
        Ok(_) => {
            pass.status.stage = Some(ConversionStage::WaitingForSnapshot);
            Turn::Wait(format!("Snapshot {name} is being taken."))
        }
        Err(error) if passes(&error) && waited(pass) < PATIENCE_SECONDS => Turn::Wait(format!("Waiting: {error}.")),
        Err(error) => {
            let hint = "see the events of the VM in vSphere";
            Turn::Error(WorkerError::new("SnapshotFailed", format!("snapshot {name}: {error}"), hint, passes(&error)))
        }
    }
}

/// Whether an error of the source may pass by itself.
fn passes(error: &SourceError) -> bool {
    match error {
        SourceError::NotReady(_) | SourceError::Conflict(_) | SourceError::Unreachable(_) => true,
        SourceError::NotFound(_) | SourceError::Denied(_) | SourceError::Other(_) => false,
    }
}

fn waited(pass: &Pass<'_, Conversion>) -> i64 {
    pass.status.start_time.as_ref().map_or(0, |began| pass.now.as_second().saturating_sub(began.0.as_second()))
}

/// Sees to the pod until its results are there.
async fn run(context: &Context, pass: &mut Pass<'_, Conversion>) -> Result<Turn, ReconcileError> {
    let conversion = pass.object;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &conversion.spec.target_namespace);
    let Some(found) = pods.get_opt(&pod::name(conversion)).await? else {
        pass.status.stage = Some(ConversionStage::CreatingPod);
        let snapshot = pass.status.snapshot.as_ref().map(|snapshot| snapshot.moref.clone()).unwrap_or_default();
        let wanted = pod::inspector(conversion, &context.config.settings, &snapshot)?;
        let uid = conversion.uid();
        return match create(&pods, &wanted, |found| pod::belongs(found, uid.as_deref())).await {
            Ok((made, _)) => {
                pass.status.pod = ObjectReference {
                    kind: Some("Pod".to_owned()),
                    namespace: made.namespace(),
                    name: Some(made.name_any()),
                    uid: made.uid(),
                    ..ObjectReference::default()
                };
                Ok(Turn::Wait("The inspection's pod is being started.".to_owned()))
            }
            Err(ApplyError::Rejected { what, reason }) => {
                Ok(Turn::Error(WorkerError::new("PodNotStarted", format!("{what}: {reason}"), "", false)))
            }
            Err(error) => Err(error.into()),
        };
    };
    Ok(match worker::phase(&found) {
        "Running" => {
            pass.status.stage = Some(ConversionStage::PodRunning);
            let Some(ip) = worker::running_ip(&found) else {
                return Ok(Turn::Wait("The inspection's pod runs.".to_owned()));
            };
            if context.workers.answers(ip, READY_PATH).await {
                return Ok(Turn::Next);
            }
            let progress = context.workers.conversion_progress(ip).await;
            let message = progress.as_ref().and_then(|progress| progress.message.clone());
            pass.status.progress = progress.or_else(|| pass.status.progress.take());
            Turn::Wait(message.unwrap_or_else(|| "The guest is being inspected.".to_owned()))
        }
        // the node went, not the inspection: nothing was changed, and it begins again
        "Failed" if super::interrupted(&found) => {
            delete(&pods, &found.name_any(), found.uid().as_deref()).await?;
            Turn::Wait("The node was stopped while the guest was inspected; it is inspected again.".to_owned())
        }
        "Failed" | "Succeeded" => Turn::Error(left(&found)),
        _ => waiting(context, pass, &found),
    })
}

/// A pod that waits: for a while, then it is given up.
fn waiting(context: &Context, pass: &Pass<'_, Conversion>, pod: &Pod) -> Turn {
    let minutes = i64::try_from(context.config.settings.conversion_pod_pending_timeout).unwrap_or(0);
    let age = pod.creation_timestamp().map_or(0, |made| pass.now.as_second() - made.0.as_second());
    let why = worker::waiting(pod).map(|(reason, message)| format!("{reason}: {message}"));
    if minutes > 0 && age > minutes * 60 {
        let why = why.unwrap_or_else(|| "no reason is known".to_owned());
        let message = format!("the inspection's pod was pending for more than {minutes} minutes: {why}");
        return Turn::Error(WorkerError::new("PodNotStarted", message, "see the events of the pod", true));
    }
    Turn::Wait(why.map_or_else(
        || "The inspection's pod is being started.".to_owned(),
        |why| format!("The inspection's pod waits: {why}"),
    ))
}

/// Why a pod ended before its results were read.
fn left(pod: &Pod) -> WorkerError {
    let name = pod.name_any();
    let told = super::result_of(pod).and_then(|result| result.error);
    told.unwrap_or_else(|| {
        let last = worker::termination_message(pod, "deep-inspection").map(str::trim).unwrap_or_default();
        let why = if last.is_empty() { String::new() } else { format!(": {last}") };
        let hint = format!("read the log: kubectl logs -n {} {name}", pod.namespace().unwrap_or_default());
        WorkerError::new(
            "PodFailed",
            format!("pod {name} failed before {RESULTS_PATH} could be fetched{why}"),
            &hint,
            true,
        )
    })
}

/// Reads the results, and tells the pod to end.
async fn fetch(context: &Context, pass: &mut Pass<'_, Conversion>) -> Result<Turn, ReconcileError> {
    if pass.status.inspection_result.is_some() {
        return Ok(Turn::Next);
    }
    let conversion = pass.object;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &conversion.spec.target_namespace);
    let Some(found) = pods.get_opt(&pod::name(conversion)).await? else {
        pass.status.stage = Some(ConversionStage::CreatingPod);
        return Ok(Turn::Wait("The inspection's pod is gone; the guest is inspected again.".to_owned()));
    };
    if matches!(worker::phase(&found), "Failed" | "Succeeded") {
        return Ok(Turn::Error(left(&found)));
    }
    let Some(ip) = worker::running_ip(&found) else {
        return Ok(Turn::Wait("The results are fetched.".to_owned()));
    };
    let Some(text) = context.workers.text(ip, RESULTS_PATH).await else {
        return Ok(Turn::Wait("The results are fetched.".to_owned()));
    };
    match serde_json::from_str::<InspectionReport>(&text) {
        Ok(report) => {
            pass.status.inspection_result = Some(InspectionResult::from(report));
            pass.status.progress = None;
            context.workers.shut_down(ip).await;
            Ok(Turn::Next)
        }
        Err(error) => {
            let message = format!("the inspection's results cannot be read: {error}");
            Ok(Turn::Error(WorkerError::new("InvalidResult", message, "see the log of the pod", false)))
        }
    }
}

/// Removes the conversion's own snapshot, when nobody reads it any more.
async fn remove(context: &Context, pass: &mut Pass<'_, Conversion>) -> Result<Turn, ReconcileError> {
    let conversion = pass.object;
    if pass.status.result.as_ref().is_some_and(|result| result.error.is_some()) {
        super::remove_pod(context, conversion).await?;
    }
    Ok(match gone(context, conversion).await {
        Ok(true) => {
            pass.status.snapshot = None;
            Turn::Next
        }
        Ok(false) => {
            pass.status.stage = Some(ConversionStage::WaitingForSnapshotRemoval);
            Turn::Wait(format!("Snapshot {} is being removed.", snapshot_name(conversion)))
        }
        Err(error) if passes(&error) => {
            Turn::Wait(format!("The snapshot is removed when the source answers: {error}."))
        }
        Err(error) => Turn::Error(not_removed(conversion, &error)),
    })
}

fn not_removed(conversion: &Conversion, error: &SourceError) -> WorkerError {
    let name = snapshot_name(conversion);
    let hint = format!("remove snapshot {name} of VM {} by hand", conversion.spec.vm.id);
    WorkerError::new("SnapshotLeft", format!("snapshot {name} was not removed: {error}"), &hint, false)
}

async fn gone(context: &Context, conversion: &Conversion) -> Result<bool, SourceError> {
    let source = connect(context, conversion).await?;
    source.remove(&conversion.spec.vm.id, &snapshot_name(conversion)).await
}

/// Puts a conversion in order that its user ended: its snapshot goes, the pod is gone already.
pub(super) async fn end(context: &Context, pass: &mut Pass<'_, Conversion>) -> Result<Action, ReconcileError> {
    let conversion = pass.object;
    let mut message = "The inspection was canceled.".to_owned();
    if takes_its_own(conversion) && pass.status.snapshot.is_some() {
        match gone(context, conversion).await {
            Ok(true) => pass.status.snapshot = None,
            Ok(false) => {
                pass.status.stage = Some(ConversionStage::WaitingForSnapshotRemoval);
                return Ok(Action::requeue(SLOW));
            }
            Err(error) if passes(&error) => return Ok(Action::requeue(SLOW)),
            Err(error) => {
                let left = not_removed(conversion, &error);
                message = format!("{message} {} ({})", left.message, left.hint.unwrap_or_default());
            }
        }
    }
    pass.set(Condition::new(types::CONVERSION_CANCELED, Category::Advisory, message.clone()));
    pass.status.message = message;
    pass.status.stage = Some(ConversionStage::Finished);
    pass.status.completion_time = Some(Time(pass.now));
    Ok(Action::await_change())
}

/// Sees to it that a conversion that is being deleted leaves no snapshot; returns whether it may go.
pub(super) async fn left_in_order(context: &Context, conversion: &Conversion) -> Result<bool, ReconcileError> {
    let status = conversion.status.as_ref();
    let taken = status.and_then(|status| status.snapshot.as_ref()).is_some_and(|snapshot| snapshot.owned);
    if !taken || !takes_its_own(conversion) {
        return Ok(true);
    }
    match gone(context, conversion).await {
        Ok(gone) => Ok(gone),
        Err(error) if passes(&error) => Ok(false),
        // it must not be held for ever by a secret that is gone
        Err(error) => {
            let left = not_removed(conversion, &error);
            tracing::error!(conversion = conversion.name_any(), hint = left.hint, "{}", left.message);
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConversionStage::*;

    #[test]
    fn stages_follow_each_other_to_their_end() {
        let path = |owned| {
            let mut stage = if owned { CreatingSnapshot } else { CreatingPod };
            let mut all = vec![stage];
            while stage != Finished {
                stage = following(stage, owned);
                all.push(stage);
            }
            all
        };
        assert_eq!(path(true), [CreatingSnapshot, CreatingPod, FetchingResults, RemovingSnapshot, Finished]);
        assert_eq!(path(false), [CreatingPod, FetchingResults, Finished]);
    }

    #[test]
    fn a_snapshot_that_is_given_is_never_ours() {
        let conversion = |settings: serde_json::Value| -> Conversion {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Conversion", "metadata": {"name": "c", "uid": "u"},
                "spec": {"type": "DeepInspection", "vm": {"id": "vm-1"}, "connection": {"secret": {}}, "settings": settings}
            }))
            .unwrap_or_else(|error| panic!("{error}"))
        };
        assert!(!takes_its_own(&conversion(serde_json::json!({"SNAPSHOT_MOREF": "snapshot-7"}))));
        let own = conversion(serde_json::json!({"SNAPSHOT_MOREF": " "}));
        assert!(takes_its_own(&own));
        assert_eq!(snapshot_name(&own), snapshot_name(&own));
        assert!(snapshot_name(&own).starts_with("forklift-inspection-"));
    }
}
