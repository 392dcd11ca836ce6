//! The Job controller: pods until enough have succeeded, or too many have failed.
//!
//! [`account`] decides from the Job and its pods; the shell around it only carries out.
//! Pods are named after the Job's uid and a running number, so that a controller that
//! crashed after a creation creates the same pod again and is refused, not a second one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::events::{Events, Kind, short_hash};
use crate::volumes::provision::watch;

/// The running number of a Job's pod.
const NUMBER: &str = "node.embedded/job-pod";
/// The pod condition that tells how often the node itself was the cause of a restart.
pub const LOST: &str = "node.embedded/RestartsByNode";
const FIRST_BACKOFF: i64 = 10;
const LONGEST_BACKOFF: i64 = 360;

/// What a Job needs next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Numbers of the pods to create.
    pub create: Vec<u32>,
    /// Names of the pods to delete.
    pub delete: Vec<String>,
    /// The status to write.
    pub status: JobStatus,
    /// When to look again.
    pub wake: Option<Timestamp>,
    /// The Job has outlived its time.
    pub remove: bool,
    /// Why it ended just now: reason and message.
    pub ended: Option<(String, String)>,
}

/// Decides about a Job and the pods that it owns.
pub fn account(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Account {
    let spec = job.spec.clone().unwrap_or_default();
    let old = job.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let limit = spec.backoff_limit.unwrap_or(6);

    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let in_phase = |wanted: &str| pods.iter().filter(|pod| phase(pod) == wanted).count() as i32;
    let active: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| {
            !matches!(phase(pod).as_str(), "Succeeded" | "Failed") && pod.metadata.deletion_timestamp.is_none()
        })
        .collect();
    // pods that were removed after they had been counted stay counted
    let succeeded = in_phase("Succeeded").max(old.succeeded.unwrap_or(0));
    let failed = in_phase("Failed").max(old.failed.unwrap_or(0));
    let ready = active.iter().filter(|pod| is_ready(pod)).count() as i32;

    let mut account = Account::default();
    let set = |status: &mut JobStatus, active: i32, ready: i32| {
        status.active = (active > 0).then_some(active);
        status.ready = Some(ready);
        status.succeeded = (succeeded > 0).then_some(succeeded);
        status.failed = (failed > 0).then_some(failed);
        status.uncounted_terminated_pods = Some(Default::default());
    };
    let names = |pods: &[&Arc<Pod>]| pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>();

    if let Some(finished) = finished_at(&old) {
        set(&mut status, 0, 0);
        account.delete = names(&active);
        if let Some(seconds) = spec.ttl_seconds_after_finished {
            let at = finished.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(finished);
            account.remove = at <= now;
            account.wake = (at > now).then_some(at);
        }
        account.status = status;
        return account;
    }

    let suspended = spec.suspend == Some(true);
    if !suspended && status.start_time.is_none() {
        status.start_time = Some(Time(now));
    }
    let started = status.start_time.as_ref().map(|time| time.0);
    let deadline = spec
        .active_deadline_seconds
        .zip(started)
        .and_then(|(seconds, started)| started.checked_add(SignedDuration::from_secs(seconds)).ok());
    let restarts: i32 = active.iter().map(|pod| own_restarts(pod)).sum();
    let on_failure = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
    let too_many_restarts = on_failure && restarts > 0 && restarts >= limit;

    let complete = match spec.completions {
        Some(wanted) => succeeded >= wanted,
        None => succeeded > 0 && active.is_empty(),
    };
    let failure = pods
        .iter()
        .find_map(|pod| fails_job(pod, spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules)))
        .map(|message| ("PodFailurePolicy", message))
        .or_else(|| {
            (failed > limit || too_many_restarts)
                .then(|| ("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned()))
        })
        .or_else(|| {
            deadline
                .is_some_and(|deadline| deadline <= now)
                .then(|| ("DeadlineExceeded", "Job was active longer than specified deadline".to_owned()))
        });
    let end = if complete {
        Some(("Complete", "CompletionsReached", "Reached expected number of succeeded pods".to_owned()))
    } else {
        failure.map(|(reason, message)| ("Failed", reason, message))
    };
    if let Some((kind, reason, message)) = end {
        account.delete = names(&active);
        set(&mut status, 0, 0);
        if kind == "Complete" {
            status.completion_time = Some(Time(now));
        }
        status.conditions.get_or_insert_default().push(JobCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.clone()),
            last_probe_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        });
        account.ended = Some((reason.into(), message));
        account.status = status;
        return account;
    }

    set(&mut status, active.len() as i32, ready);
    account.status = status;
    account.wake = deadline;
    if suspended {
        account.delete = names(&active);
        return account;
    }
    let missing = match spec.completions {
        Some(wanted) => (wanted - succeeded).min(parallelism),
        None if succeeded > 0 => 0,
        None => parallelism,
    };
    let mut wanted = missing - active.len() as i32;
    if wanted < 0 {
        let surplus = active.len().saturating_sub(missing.max(0) as usize);
        account.delete = names(&active[..surplus]);
    }
    // a pod that is going away still has its place
    wanted -= pods
        .iter()
        .filter(|pod| {
            pod.metadata.deletion_timestamp.is_some() && !matches!(phase(pod).as_str(), "Succeeded" | "Failed")
        })
        .count() as i32;
    if wanted > 0 {
        match backoff(pods, failed) {
            Some(at) if at > now => account.wake = Some(account.wake.map_or(at, |wake| wake.min(at))),
            _ => account.create = numbers(pods, succeeded + failed, wanted as usize),
        }
    }
    account
}

/// The next free running numbers.
fn numbers(pods: &[Arc<Pod>], counted: i32, wanted: usize) -> Vec<u32> {
    let taken: BTreeSet<u32> =
        pods.iter().filter_map(|pod| pod.metadata.annotations.as_ref()?.get(NUMBER)?.parse().ok()).collect();
    let first = taken.last().map_or(0, |last| last + 1).max(u32::try_from(counted).unwrap_or(0));
    (first..).take(wanted).collect()
}

/// When the next pod may be created after failures.
fn backoff(pods: &[Arc<Pod>], failed: i32) -> Option<Timestamp> {
    let exponent = u32::try_from(failed.checked_sub(1)?).ok()?;
    let wait = (FIRST_BACKOFF << exponent.min(10)).min(LONGEST_BACKOFF);
    let last = pods
        .iter()
        .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed"))
        .flat_map(|pod| terminations(pod).into_iter().filter_map(|(_, _, at)| at))
        .max()?;
    last.checked_add(SignedDuration::from_secs(wait)).ok()
}

fn finished_at(status: &JobStatus) -> Option<Timestamp> {
    let done = |condition: &&JobCondition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    };
    let condition = status.conditions.iter().flatten().find(done)?;
    Some(condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Restarts of a pod's containers that were the program's fault, not the node's.
fn own_restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let restarts: i32 = all.map(|container| container.restart_count).sum();
    let lost: i32 = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == LOST)
        .and_then(|condition| condition.message.as_deref()?.parse().ok())
        .unwrap_or(0);
    (restarts - lost).max(0)
}

/// All ends of containers that the status still shows: name, exit code, time.
fn terminations(pod: &Pod) -> Vec<(String, i32, Option<Timestamp>)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.flat_map(|container| {
        [&container.state, &container.last_state].into_iter().filter_map(|state| {
            let end = state.as_ref()?.terminated.as_ref()?;
            Some((container.name.clone(), end.exit_code, end.finished_at.as_ref().map(|time| time.0)))
        })
    })
    .collect()
}

/// Says why a pod's end fails the whole Job, by its rules on exit codes.
fn fails_job<'a>(pod: &Pod, rules: impl Iterator<Item = &'a PodFailurePolicyRule>) -> Option<String> {
    let ends = terminations(pod);
    for rule in rules.filter(|rule| rule.action == "FailJob") {
        let Some(codes) = &rule.on_exit_codes else { continue };
        for (name, code, _) in ends.iter().filter(|(_, code, _)| *code != 0) {
            let named = codes.container_name.as_ref().is_none_or(|wanted| wanted == name);
            if named && codes.values.contains(code) == (codes.operator == "In") {
                let pod = format!(
                    "{}/{}",
                    pod.metadata.namespace.as_deref().unwrap_or_default(),
                    pod.metadata.name.as_deref().unwrap_or_default()
                );
                return Some(format!(
                    "Container {name} for pod {pod} failed with exit code {code} matching FailJob rule"
                ));
            }
        }
    }
    None
}

/// Works on all Jobs until shutdown.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let events = Events::new(client.clone(), "job-controller");
    let (jobs, job_changes) = watch::<Job>(&client);
    let (pods, pod_changes) = watch::<Pod>(&client);
    let changes = futures::stream::select(job_changes, pod_changes);
    futures::pin_mut!(changes);
    let mut wake: Option<Timestamp> = None;
    loop {
        let pause = wake.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
        let ready = futures::future::join(jobs.wait_until_ready(), pods.wait_until_ready());
        if futures::FutureExt::now_or_never(ready).is_none() {
            continue;
        }
        wake = None;
        let all = pods.state();
        for job in jobs.state() {
            if job.metadata.deletion_timestamp.is_some()
                || job.spec.as_ref().is_some_and(|spec| spec.managed_by.is_some())
            {
                continue;
            }
            let uid = job.metadata.uid.clone().unwrap_or_default();
            let own: Vec<Arc<Pod>> = all
                .iter()
                .filter(|pod| pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid))
                .cloned()
                .collect();
            let now = Timestamp::now();
            let account = account(&job, &own, now);
            let next = match carry_out(&client, &events, &job, &account).await {
                Ok(()) => account.wake,
                Err(error) => {
                    if !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
                        tracing::warn!(%error, job = job.metadata.name, "job not served");
                    }
                    now.checked_add(SignedDuration::from_secs(1)).ok()
                }
            };
            wake = [wake, next].into_iter().flatten().min();
        }
    }
}

async fn carry_out(client: &Client, events: &Events, job: &Job, account: &Account) -> kube::Result<()> {
    let namespace = job.metadata.namespace.as_deref().unwrap_or("default");
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
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
        for field in ["active", "ready"] {
            if value.get(field).is_none() {
                value[field] = serde_json::Value::Null;
            }
        }
        let patch = json!({"metadata": {"resourceVersion": job.metadata.resource_version}, "status": value});
        jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    if let Some((reason, message)) = &account.ended {
        let kind = if reason == "CompletionsReached" { Kind::Normal } else { Kind::Warning };
        let reason = if kind == Kind::Normal { "Completed" } else { reason };
        events.publish(job, kind, reason, message).await;
    }
    for pod in &account.delete {
        match pods.delete(pod, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => {
                other?;
            }
        }
    }
    for number in &account.create {
        let pod = pod(job, *number);
        match pods.create(&PostParams::default(), &pod).await {
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

/// The pod of a Job with a running number.
fn pod(job: &Job, number: u32) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut labels = meta.labels.unwrap_or_default();
    for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        labels.insert(key.into(), uid.clone());
    }
    for key in ["batch.kubernetes.io/job-name", "job-name"] {
        // a label takes 63 characters
        labels.insert(key.into(), name.chars().take(63).collect());
    }
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(NUMBER.into(), number.to_string());
    let base: String = name.chars().take(57).collect();
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{}", &short_hash(&format!("{uid}/{number}"))[..5])),
            namespace: job.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".into(),
                kind: "Job".into(),
                name,
                uid,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn job(spec: Value, status: Value) -> Job {
        let mut whole = json!({"template": {"spec": {"containers": [], "restartPolicy": "Never"}}});
        for (key, value) in spec.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        let job = json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": whole, "status": status});
        serde_json::from_value(job).expect("a job")
    }

    fn pod_of(number: u32, phase: &str, code: i32) -> Arc<Pod> {
        let state = json!({"terminated": {"exitCode": code, "finishedAt": "1970-01-01T00:01:40Z"}});
        let pod = json!({
            "metadata": {"name": format!("j-{number}"), "namespace": "n", "annotations": {NUMBER: number.to_string()}},
            "status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": if code < 0 { json!({"running": {}}) } else { state }}]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn summary(account: &Account) -> String {
        let status = &account.status;
        let end: Vec<String> = status
            .conditions
            .iter()
            .flatten()
            .map(|condition| format!("{}:{}", condition.type_, condition.reason.as_deref().unwrap_or_default()))
            .collect();
        format!(
            "create {:?} delete {:?} a{} s{} f{} {end:?}",
            account.create,
            account.delete,
            status.active.unwrap_or(0),
            status.succeeded.unwrap_or(0),
            status.failed.unwrap_or(0)
        )
    }

    #[test]
    fn jobs_move_on_as_kubernetes_says() {
        let one = json!({"completions": 1, "backoffLimit": 2});
        let three = json!({"completions": 3, "parallelism": 2});
        let policy = json!({"completions": 1, "podFailurePolicy": {"rules": [
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]}});
        let (run, ok) = (|number| pod_of(number, "Running", -1), |number| pod_of(number, "Succeeded", 0));
        let bad = |number| pod_of(number, "Failed", 1);
        let cases: Vec<(&Value, Vec<Arc<Pod>>, &str)> = vec![
            (&one, vec![], "create [0] delete [] a0 s0 f0 []"),
            (&one, vec![run(0)], "create [] delete [] a1 s0 f0 []"),
            (&one, vec![ok(0)], r#"create [] delete [] a0 s1 f0 ["Complete:CompletionsReached"]"#),
            (&one, vec![bad(0)], "create [1] delete [] a0 s0 f1 []"),
            (&one, vec![bad(0), bad(1), bad(2)], r#"create [] delete [] a0 s0 f3 ["Failed:BackoffLimitExceeded"]"#),
            (&three, vec![], "create [0, 1] delete [] a0 s0 f0 []"),
            (&three, vec![ok(0), run(1)], "create [2] delete [] a1 s1 f0 []"),
            (&three, vec![ok(0), ok(1), run(2)], "create [] delete [] a1 s2 f0 []"),
            (&three, vec![ok(0), run(1), run(2), run(3)], r#"create [] delete ["j-1"] a3 s1 f0 []"#),
            (
                &policy,
                vec![pod_of(0, "Failed", 3), run(1)],
                r#"create [] delete ["j-1"] a0 s0 f1 ["Failed:PodFailurePolicy"]"#,
            ),
            (&policy, vec![pod_of(0, "Failed", 4)], "create [1] delete [] a0 s0 f1 []"),
        ];
        for (spec, pods, expected) in cases {
            let account = account(&job(spec.clone(), json!({"startTime": "1970-01-01T00:00:00Z"})), &pods, at(500));
            assert_eq!(summary(&account), expected);
        }
    }

    #[test]
    fn time_is_kept() {
        let spec = json!({"completions": 1, "activeDeadlineSeconds": 50, "ttlSecondsAfterFinished": 30});
        let running = job(spec.clone(), json!({"startTime": "1970-01-01T00:00:00Z"}));
        let early = account(&running, &[pod_of(0, "Running", -1)], at(49));
        assert_eq!(early.wake, Some(at(50)));
        let late = account(&running, &[pod_of(0, "Running", -1)], at(50));
        assert_eq!(summary(&late), r#"create [] delete ["j-0"] a0 s0 f0 ["Failed:DeadlineExceeded"]"#);
        let done = job(spec, serde_json::to_value(&late.status).expect("json"));
        assert_eq!((account(&done, &[], at(79)).remove, account(&done, &[], at(79)).wake), (false, Some(at(80))));
        assert!(account(&done, &[], at(80)).remove);
        // failed at 100: the second pod waits ten seconds
        let one = job(json!({"completions": 1}), json!({"startTime": "1970-01-01T00:00:00Z"}));
        let waiting = account(&one, &[pod_of(0, "Failed", 1)], at(101));
        assert_eq!((waiting.create.len(), waiting.wake), (0, Some(at(110))));
    }

    #[test]
    fn restarts_by_the_node_are_not_the_programs_fault() {
        let spec = json!({"completions": 1, "backoffLimit": 2, "template": {"spec": {"containers": [], "restartPolicy": "OnFailure"}}});
        let job = job(spec, json!({}));
        let pod = |restarts: i32, lost: i32| {
            let mut pod = (*pod_of(0, "Running", -1)).clone();
            let value = json!({"phase": "Running", "conditions": [{"type": LOST, "status": "True", "message": lost.to_string()}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": restarts}]});
            pod.status = Some(serde_json::from_value(value).expect("a status"));
            Arc::new(pod)
        };
        assert!(account(&job, &[pod(2, 0)], at(1)).ended.is_some_and(|(reason, _)| reason == "BackoffLimitExceeded"));
        assert!(account(&job, &[pod(2, 1)], at(1)).ended.is_none());
    }

    #[test]
    fn the_same_number_gives_the_same_pod() {
        let job = job(json!({}), json!({}));
        assert_eq!(pod(&job, 1).metadata.name, pod(&job, 1).metadata.name);
        assert_ne!(pod(&job, 1).metadata.name, pod(&job, 2).metadata.name);
    }
}
