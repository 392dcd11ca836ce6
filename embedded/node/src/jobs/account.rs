//! What a Job needs next: a decision over the Job and its pods.
//!
//! Pods that were removed after they had been counted stay counted, as the status is the memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::policy::{self, Verdict, terminations};
use super::{LOST, NUMBER, indexes};

/// The completion index of a pod.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often pods of an index had failed when a pod was made.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const FIRST_BACKOFF: i64 = 10;
const LONGEST_BACKOFF: i64 = 360;

/// A pod to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its running number.
    pub number: u32,
    /// Its completion index.
    pub index: Option<i32>,
    /// How often pods of its index have failed.
    pub failures: u32,
}

/// What a Job needs next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The pods to create.
    pub create: Vec<Place>,
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
    /// It was suspended or resumed just now: reason and message.
    pub turned: Option<(&'static str, &'static str)>,
}

/// The pods of a Job, sorted.
struct Tally<'a> {
    active: Vec<&'a Arc<Pod>>,
    /// Going away, not ended yet.
    leaving: Vec<&'a Arc<Pod>>,
    succeeded: i32,
    failed: i32,
    completed: BTreeSet<i32>,
    failed_indexes: BTreeSet<i32>,
    /// How often pods of an index have failed, and when the last one did.
    index_failures: BTreeMap<i32, (u32, Option<Timestamp>)>,
    fails_job: Option<String>,
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn annotation<T: std::str::FromStr>(pod: &Pod, name: &str) -> Option<T> {
    pod.metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn tally<'a>(spec: &JobSpec, old: &JobStatus, pods: &'a [Arc<Pod>]) -> Tally<'a> {
    let suspended = spec.suspend == Some(true);
    let set = |text: &Option<String>| text.as_deref().map(indexes::parse).unwrap_or_default();
    let mut tally = Tally {
        active: Vec::new(),
        leaving: Vec::new(),
        succeeded: 0,
        failed: 0,
        completed: set(&old.completed_indexes),
        failed_indexes: set(&old.failed_indexes),
        index_failures: BTreeMap::new(),
        fails_job: None,
    };
    for pod in pods {
        let index = is_indexed(spec).then(|| annotation::<i32>(pod, INDEX)).flatten();
        let earlier = annotation::<u32>(pod, INDEX_FAILURES).unwrap_or(0);
        let mut failures = earlier;
        let deleted = pod.metadata.deletion_timestamp.is_some();
        match phase(pod) {
            "Succeeded" => {
                tally.succeeded += 1;
                tally.completed.extend(index);
            }
            // who was ended by the suspension has not failed
            "Failed" if deleted && suspended => {}
            "Failed" => match policy::judge(pod, spec) {
                Verdict::Ignore => {}
                verdict => {
                    tally.failed += 1;
                    failures += 1;
                    match verdict {
                        Verdict::FailIndex => tally.failed_indexes.extend(index),
                        Verdict::FailJob(why) => tally.fails_job = tally.fails_job.or(Some(why)),
                        Verdict::Count | Verdict::Ignore => {}
                    }
                }
            },
            _ if deleted => tally.leaving.push(pod),
            _ => {
                // with restartPolicy OnFailure a container ends, not the pod
                if let Verdict::FailJob(why) = policy::judge(pod, spec) {
                    tally.fails_job = tally.fails_job.or(Some(why));
                }
                tally.active.push(pod);
            }
        }
        if let Some(index) = index {
            let ended = terminations(pod).into_iter().filter_map(|(_, _, at)| at).max();
            let known = tally.index_failures.entry(index).or_default();
            if failures >= known.0 {
                *known = (failures, ended.max(known.1));
            }
        }
    }
    if let Some(limit) = spec.backoff_limit_per_index.and_then(|limit| u32::try_from(limit).ok()) {
        let over = tally.index_failures.iter().filter(|(_, (failures, _))| *failures > limit).map(|(index, _)| *index);
        tally.failed_indexes.extend(over.collect::<Vec<_>>());
    }
    tally.failed_indexes = &tally.failed_indexes - &tally.completed;
    tally.succeeded = tally.succeeded.max(old.succeeded.unwrap_or(0));
    if is_indexed(spec) {
        tally.succeeded = tally.completed.len() as i32;
    }
    tally.failed = tally.failed.max(old.failed.unwrap_or(0));
    tally
}

/// Decides about a Job and the pods that it owns.
pub fn account(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Account {
    let spec = job.spec.clone().unwrap_or_default();
    let old = job.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let tally = tally(&spec, &old, pods);
    let mut account = Account::default();

    if let Some(finished) = finished_at(&old) {
        count(&mut status, &spec, &tally, true);
        account.delete = names(&tally.active);
        if let Some(seconds) = spec.ttl_seconds_after_finished {
            let at = finished.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(finished);
            account.remove = at <= now;
            account.wake = (at > now).then_some(at);
        }
        account.status = status;
        return account;
    }

    let suspended = spec.suspend == Some(true);
    account.turned = turn(&mut status, suspended, now);
    if suspended {
        status.start_time = None;
    } else if status.start_time.is_none() {
        status.start_time = Some(Time(now));
    }
    let started = status.start_time.as_ref().map(|time| time.0);
    let deadline = spec
        .active_deadline_seconds
        .zip(started)
        .and_then(|(seconds, started)| started.checked_add(SignedDuration::from_secs(seconds)).ok());
    if let Some((kind, reason, message)) = end(&spec, &tally, deadline, now) {
        account.delete = names(&tally.active);
        count(&mut status, &spec, &tally, true);
        if kind == "Complete" {
            status.completion_time = Some(Time(now));
        }
        let mut add = |name: &str| {
            status.conditions.get_or_insert_default().push(condition(name, "True", reason, &message, now));
        };
        if reason == SUCCESS_POLICY {
            add("SuccessCriteriaMet");
        }
        add(kind);
        account.ended = Some((reason.into(), message));
        account.status = status;
        return account;
    }
    count(&mut status, &spec, &tally, false);
    account.status = status;
    account.wake = deadline;
    if suspended {
        account.delete = names(&tally.active);
        return account;
    }
    staff(&mut account, &spec, &tally, pods, now);
    account
}

const SUCCESS_POLICY: &str = "SuccessPolicy";

/// Says whether the Job has ended: condition, reason, message.
fn end(
    spec: &JobSpec,
    tally: &Tally<'_>,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Option<(&'static str, &'static str, String)> {
    if let Some(why) = &tally.fails_job {
        return Some(("Failed", "PodFailurePolicy", why.clone()));
    }
    if is_indexed(spec)
        && let Some(message) = policy::succeeded(spec, &tally.completed)
    {
        return Some(("Complete", SUCCESS_POLICY, message));
    }
    let complete = match spec.completions {
        Some(wanted) => tally.succeeded >= wanted,
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    if complete {
        return Some(("Complete", "CompletionsReached", "Reached expected number of succeeded pods".into()));
    }
    let limit = spec.backoff_limit.unwrap_or(if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 });
    let restarts: i32 = tally.active.iter().map(|pod| own_restarts(pod)).sum();
    let on_failure = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
    if tally.failed > limit || on_failure && restarts > 0 && restarts >= limit {
        return Some(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit".into()));
    }
    if deadline.is_some_and(|deadline| deadline <= now) {
        return Some(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline".into()));
    }
    if spec.backoff_limit_per_index.is_some() {
        let failed = tally.failed_indexes.len();
        if spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok()).is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(("Failed", "MaxFailedIndexesExceeded", message.into()));
        }
        let done = failed + tally.completed.len();
        if failed > 0
            && spec.completions.is_some_and(|wanted| usize::try_from(wanted).is_ok_and(|wanted| done >= wanted))
        {
            return Some(("Failed", "FailedIndexes", "Job has failed indexes".into()));
        }
    }
    None
}

/// Decides which pods to make and which are too many.
fn staff(account: &mut Account, spec: &JobSpec, tally: &Tally<'_>, pods: &[Arc<Pod>], now: Timestamp) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let missing = match spec.completions {
        Some(wanted) => (wanted - tally.succeeded - tally.failed_indexes.len() as i32).min(parallelism),
        None if tally.succeeded > 0 => 0,
        None => parallelism,
    };
    let mut wanted = missing - tally.active.len() as i32;
    if wanted < 0 {
        let surplus = tally.active.len().saturating_sub(missing.max(0) as usize);
        account.delete = names(&tally.active[..surplus]);
    }
    // until it has ended a pod that is going away may keep its place
    let default = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    let keeps_place = spec.pod_replacement_policy.as_deref().unwrap_or(default) == "Failed";
    if keeps_place {
        wanted -= tally.leaving.len() as i32;
    }
    if wanted <= 0 {
        return;
    }
    let mut later = |at: Timestamp| account.wake = Some(account.wake.map_or(at, |wake| wake.min(at)));
    let counted = tally.succeeded + tally.failed;
    if !is_indexed(spec) {
        match backoff(u32::try_from(tally.failed).unwrap_or(0), last_failure(pods)) {
            Some(at) if at > now => later(at),
            _ => {
                let places = numbers(pods, counted, wanted as usize).into_iter();
                account.create = places.map(|number| Place { number, index: None, failures: 0 }).collect();
            }
        }
        return;
    }
    let taken: BTreeSet<i32> = tally
        .active
        .iter()
        .chain(tally.leaving.iter().filter(|_| keeps_place))
        .filter_map(|pod| annotation(pod, INDEX))
        .collect();
    let per_index = spec.backoff_limit_per_index.is_some();
    let all = (0..spec.completions.unwrap_or(0)).filter(|index| {
        !taken.contains(index) && !tally.completed.contains(index) && !tally.failed_indexes.contains(index)
    });
    let mut free = Vec::new();
    for index in all {
        let (failures, last) = tally.index_failures.get(&index).copied().unwrap_or_default();
        let until = if per_index {
            backoff(failures, last)
        } else {
            backoff(u32::try_from(tally.failed).unwrap_or(0), last_failure(pods))
        };
        match until {
            Some(at) if at > now => later(at),
            _ => free.push((index, failures)),
        }
        if free.len() >= wanted as usize {
            break;
        }
    }
    let numbers = numbers(pods, counted, free.len());
    account.create = free
        .into_iter()
        .zip(numbers)
        .map(|((index, failures), number)| Place { number, index: Some(index), failures })
        .collect();
}

fn names(pods: &[&Arc<Pod>]) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
}

fn count(status: &mut JobStatus, spec: &JobSpec, tally: &Tally<'_>, ended: bool) {
    let active = if ended { 0 } else { tally.active.len() as i32 };
    let ready = if ended { 0 } else { tally.active.iter().filter(|pod| is_ready(pod)).count() as i32 };
    status.active = (active > 0).then_some(active);
    status.ready = Some(ready);
    status.terminating = (!tally.leaving.is_empty()).then_some(tally.leaving.len() as i32);
    status.succeeded = (tally.succeeded > 0).then_some(tally.succeeded);
    status.failed = (tally.failed > 0).then_some(tally.failed);
    status.uncounted_terminated_pods = Some(Default::default());
    if is_indexed(spec) {
        status.completed_indexes = (!tally.completed.is_empty()).then(|| indexes::format(&tally.completed));
        if spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(indexes::format(&tally.failed_indexes));
        }
    }
}

fn condition(name: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: name.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Keeps the condition that says whether a Job is suspended; a Job that never was has none.
fn turn(status: &mut JobStatus, suspended: bool, now: Timestamp) -> Option<(&'static str, &'static str)> {
    let known = status.conditions.iter().flatten().position(|condition| condition.type_ == "Suspended");
    let is = known.and_then(|at| status.conditions.as_ref()?.get(at)).is_some_and(|known| known.status == "True");
    if is == suspended {
        return None;
    }
    let (value, reason, message, event) = if suspended {
        ("True", "JobSuspended", "Job suspended", ("Suspended", "Job suspended"))
    } else {
        ("False", "JobResumed", "Job resumed", ("Resumed", "Job resumed"))
    };
    let fresh = condition("Suspended", value, reason, message, now);
    let conditions = status.conditions.get_or_insert_default();
    match known.and_then(|at| conditions.get_mut(at)) {
        Some(old) => *old = fresh,
        None => conditions.push(fresh),
    }
    Some(event)
}

/// The next free running numbers.
fn numbers(pods: &[Arc<Pod>], counted: i32, wanted: usize) -> Vec<u32> {
    let taken: BTreeSet<u32> = pods.iter().filter_map(|pod| annotation(pod, NUMBER)).collect();
    let first = taken.last().map_or(0, |last| last + 1).max(u32::try_from(counted).unwrap_or(0));
    (first..).take(wanted).collect()
}

/// When the next pod may be created after failures.
fn backoff(failed: u32, last: Option<Timestamp>) -> Option<Timestamp> {
    let exponent = failed.checked_sub(1)?;
    let wait = (FIRST_BACKOFF << exponent.min(10)).min(LONGEST_BACKOFF);
    last?.checked_add(SignedDuration::from_secs(wait)).ok()
}

fn last_failure(pods: &[Arc<Pod>]) -> Option<Timestamp> {
    let failed = pods.iter().filter(|pod| phase(pod) == "Failed");
    failed.flat_map(|pod| terminations(pod).into_iter().filter_map(|(_, _, at)| at)).max()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
            account.create.iter().map(|place| place.number).collect::<Vec<_>>(),
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
    fn indexes_are_filled_failed_and_enough() {
        let at_index = |number: u32, index: i32, phase: &str, code: i32, failures: u32| {
            let mut pod = (*pod_of(number, phase, code)).clone();
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert(INDEX.into(), index.to_string());
            annotations.insert(INDEX_FAILURES.into(), failures.to_string());
            Arc::new(pod)
        };
        let show = |spec: Value, pods: &[Arc<Pod>]| {
            let account = account(&job(spec, json!({"startTime": "1970-01-01T00:00:00Z"})), pods, at(500));
            let create: Vec<String> = account
                .create
                .iter()
                .map(|place| format!("{}#{}", place.index.unwrap_or(-1), place.failures))
                .collect();
            let status = &account.status;
            let end = account.ended.map(|(reason, _)| reason).unwrap_or_default();
            format!(
                "{} c[{}] f[{}] {end}",
                create.join(" "),
                status.completed_indexes.as_deref().unwrap_or_default(),
                status.failed_indexes.as_deref().unwrap_or_default()
            )
        };
        let plain = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2});
        assert_eq!(show(plain.clone(), &[]), "0#0 1#0 c[] f[] ");
        let some = [at_index(0, 0, "Succeeded", 0, 0), at_index(1, 1, "Running", -1, 0)];
        assert_eq!(show(plain, &some), "2#0 c[0] f[] ");
        let limited =
            json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1});
        let once = [at_index(0, 0, "Failed", 1, 0), at_index(1, 1, "Succeeded", 0, 0)];
        assert_eq!(show(limited.clone(), &once), "0#1 c[1] f[] ");
        let twice = [at_index(0, 0, "Failed", 1, 1), at_index(1, 1, "Succeeded", 0, 0)];
        assert_eq!(show(limited, &twice), " c[1] f[0] FailedIndexes");
        let enough = json!({"completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [{"succeededIndexes": "1"}]}});
        assert_eq!(show(enough, &[at_index(0, 1, "Succeeded", 0, 0)]), " c[1] f[] SuccessPolicy");
    }

    #[test]
    fn suspended_jobs_have_no_pods_and_no_failures() {
        let suspended = json!({"completions": 1, "suspend": true});
        let begun = json!({"startTime": "1970-01-01T00:00:00Z"});
        let first = account(&job(suspended.clone(), begun), &[pod_of(0, "Running", -1)], at(5));
        assert_eq!(first.delete, ["j-0"]);
        assert_eq!((first.turned.map(|(reason, _)| reason), &first.status.start_time), (Some("Suspended"), &None));
        let status = serde_json::to_value(&first.status).expect("json");
        let mut ended = (*pod_of(0, "Failed", 143)).clone();
        ended.metadata.deletion_timestamp = Some(Time(at(6)));
        let quiet = account(&job(suspended, status.clone()), &[Arc::new(ended)], at(7));
        assert_eq!((quiet.status.failed, quiet.turned), (None, None));
        let resumed = account(&job(json!({"completions": 1}), status), &[], at(8));
        assert_eq!((resumed.create.len(), resumed.turned.map(|(reason, _)| reason)), (1, Some("Resumed")));
        assert_eq!(resumed.status.start_time, Some(Time(at(8))));
    }

    #[test]
    fn leaving_pods_keep_their_place_where_that_is_asked() {
        let mut leaving = (*pod_of(0, "Running", -1)).clone();
        leaving.metadata.deletion_timestamp = Some(Time(at(6)));
        let pods = [Arc::new(leaving)];
        let made = |spec: Value| account(&job(spec, json!({})), &pods, at(7)).create.len();
        assert_eq!(made(json!({"completions": 1})), 1);
        assert_eq!(made(json!({"completions": 1, "podReplacementPolicy": "Failed"})), 0);
    }
}
