//! The Job controller: pods until enough have succeeded, or too many have failed.
//!
//! [`account()`] decides from the Job and its pods; the shell around it only carries out, for those Jobs that a change
//! concerns. Pods are named after the Job's uid and a running number, so that a controller that
//! crashed after a creation creates the same pod again and is refused, not a second one.

pub mod account;
pub mod indexes;
pub mod pods;
pub mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use account::{Account, account};

use crate::events::{Events, Kind};
use crate::objects::{Touched, filled, touched};

/// The running number of a Job's pod.
const NUMBER: &str = "node.embedded/job-pod";
/// The pod condition that tells how often the node itself was the cause of a restart.
pub const LOST: &str = "node.embedded/RestartsByNode";

/// Namespace and name of a Job.
type Key = (String, String);

enum Change {
    Job(Touched<Job>),
    Pod(Touched<Pod>),
}

/// The Jobs that a change concerns.
fn concerned(change: &Change, jobs: &Store<Job>) -> Vec<Key> {
    let key =
        |job: &Job| (job.metadata.namespace.clone().unwrap_or_default(), job.metadata.name.clone().unwrap_or_default());
    match change {
        Change::Job(Touched::One(job)) => vec![key(job)],
        Change::Pod(Touched::One(pod)) => {
            let owners = pod.metadata.owner_references.iter().flatten().filter(|owner| owner.kind == "Job");
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            owners.map(|owner| (namespace.clone(), owner.name.clone())).collect()
        }
        Change::Job(Touched::All) | Change::Pod(Touched::All) => jobs.state().iter().map(|job| key(job)).collect(),
    }
}

/// Works on all Jobs until shutdown.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let events = Events::new(client.clone(), "job-controller");
    let (jobs, job_changes) = touched::<Job>(&client);
    let (pods, pod_changes) = touched::<Pod>(&client);
    let mut changes =
        futures::stream::select(job_changes.map(Change::Job).boxed(), pod_changes.map(Change::Pod).boxed());
    let mut due: BTreeMap<Key, Timestamp> = BTreeMap::new();
    loop {
        let now = Timestamp::now();
        let pause = due.values().min().map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => {
                let Some(change) = change else { return };
                let mut keys: BTreeSet<Key> = concerned(&change, &jobs).into_iter().collect();
                // what is there already belongs to the same round
                while let Some(Some(change)) = futures::FutureExt::now_or_never(changes.next()) {
                    keys.extend(concerned(&change, &jobs));
                }
                due.extend(keys.into_iter().map(|key| (key, now)));
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
        if !filled(&jobs) || !filled(&pods) {
            // everything is looked at once both lists are there
            due.clear();
            continue;
        }
        let now = Timestamp::now();
        let ready: Vec<Key> = due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        if ready.is_empty() {
            continue;
        }
        let all = pods.state();
        for key in ready {
            due.remove(&key);
            let Some(job) = jobs.get(&ObjectRef::new(&key.1).within(&key.0)) else { continue };
            if let Some(at) = serve(&client, &events, &job, &all).await {
                due.insert(key, at);
            }
        }
    }
}

/// Brings one Job on; returns when to look again.
async fn serve(client: &Client, events: &Events, job: &Job, pods: &[Arc<Pod>]) -> Option<Timestamp> {
    let managed = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    if job.metadata.deletion_timestamp.is_some() || managed.is_some_and(|name| name != "kubernetes.io/job-controller") {
        return None;
    }
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let owned = |pod: &&Arc<Pod>| pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
    let own: Vec<Arc<Pod>> = pods.iter().filter(owned).cloned().collect();
    let now = Timestamp::now();
    let account = account(job, &own, now);
    match carry_out(client, events, job, &account).await {
        Ok(()) => account.wake,
        Err(error) => {
            if !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
                tracing::warn!(%error, job = job.metadata.name, "job not served");
            }
            now.checked_add(SignedDuration::from_secs(1)).ok()
        }
    }
}

async fn carry_out(client: &Client, events: &Events, job: &Job, account: &Account) -> kube::Result<()> {
    let namespace = job.metadata.namespace.as_deref().unwrap_or("default");
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    if account.remove {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: job.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        jobs.delete(name, &params).await?;
        return Ok(());
    }
    // the status first: once it says that the Job has ended, nothing is created any more
    if job.status.as_ref() != Some(&account.status) {
        let mut value = serde_json::to_value(&account.status).map_err(kube::Error::SerdeError)?;
        for field in ["active", "ready", "terminating", "startTime", "completedIndexes"] {
            if value.get(field).is_none() {
                value[field] = serde_json::Value::Null;
            }
        }
        let patch = json!({"metadata": {"resourceVersion": job.metadata.resource_version}, "status": value});
        jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    if let Some((reason, message)) = &account.ended {
        let good = matches!(reason.as_str(), "CompletionsReached" | "SuccessPolicy");
        let kind = if good { Kind::Normal } else { Kind::Warning };
        let reason = if kind == Kind::Normal { "Completed" } else { reason };
        events.publish(job, kind, reason, message).await;
    }
    if let Some((reason, message)) = account.turned {
        events.publish(job, Kind::Normal, reason, message).await;
    }
    for pod in &account.delete {
        match api.delete(pod, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => {
                other?;
            }
        }
    }
    for place in &account.create {
        let pod = pods::pod(job, place);
        match api.create(&PostParams::default(), &pod).await {
            // made before a crash, or not seen yet
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                events.publish(job, Kind::Warning, "FailedCreate", &format!("Error creating: {error}")).await;
                return Err(error);
            }
            Ok(made) => {
                let name = made.metadata.name.unwrap_or_default();
                events.publish(job, Kind::Normal, "SuccessfulCreate", &format!("Created pod: {name}")).await;
            }
        }
    }
    Ok(())
}
