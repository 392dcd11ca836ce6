//! The status of a pod, computed from the state of its containers.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{self, Member, Phase};
use super::state::{Exit, Record, RestartPolicy, Role, State};

/// Why a container is not running yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// `ErrImagePull`, `CreateContainerConfigError`, `CrashLoopBackOff`, …
    pub reason: &'static str,
    /// The text beside it.
    pub message: String,
}

/// One container as the status shows it.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// What it is for.
    pub role: Role,
    /// Its declaration.
    pub container: &'a Container,
    /// Where it is.
    pub record: &'a Record,
    /// Why it does not run.
    pub waiting: Option<&'a Waiting>,
    /// Whether its start hook and its startup probe, if any, are through.
    pub up: bool,
    /// Whether it is up and its readiness probe, if any, has succeeded.
    pub ready: bool,
}

/// What holds for the pod as a whole.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// The pod's address.
    pub pod_ip: Option<String>,
    /// The node's address.
    pub host_ip: String,
    /// When the node took the pod on.
    pub start: Option<Timestamp>,
    /// A failure of the pod as a whole: reason and message.
    pub failed: Option<(String, String)>,
}

/// The phase that a pod's status shows: an end only once nothing of it runs any more, so that
/// who sees the end finds the logs and volumes complete.
pub fn phase(pod: &Pod, containers: &[Shown<'_>], whole: &Whole) -> Phase {
    let members: Vec<Member<'_>> =
        containers.iter().map(|shown| Member { role: shown.role, record: shown.record, up: shown.up }).collect();
    let phase = if whole.failed.is_some() { Phase::Failed } else { decide::phase(RestartPolicy::of(pod), &members) };
    let runs = containers.iter().any(|shown| matches!(shown.record.state, State::Running { .. }));
    if phase.is_terminal() && runs { Phase::Running } else { phase }
}

/// Computes the status; times of unchanged conditions are kept from the one before.
pub fn compute(pod: &Pod, containers: &[Shown<'_>], whole: &Whole, now: Timestamp) -> PodStatus {
    let phase = phase(pod, containers, whole);
    let old = pod.status.clone().unwrap_or_default();
    let members: Vec<Member<'_>> =
        containers.iter().map(|shown| Member { role: shown.role, record: shown.record, up: shown.up }).collect();
    let initialized = decide::initialized(&members);
    let statuses = |wanted: fn(Role) -> bool| -> Option<Vec<ContainerStatus>> {
        let list: Vec<ContainerStatus> =
            containers.iter().filter(|shown| wanted(shown.role)).map(|shown| container(shown, initialized)).collect();
        (!list.is_empty()).then_some(list)
    };
    let unready: Vec<&str> = containers
        .iter()
        .filter(|shown| shown.role != Role::Init && !is_ready(shown))
        .map(|shown| shown.container.name.as_str())
        .collect();
    let ready = unready.is_empty() && !phase.is_terminal();
    let why_not = if phase == Phase::Succeeded {
        Some(("PodCompleted", String::new()))
    } else if phase == Phase::Failed {
        Some(("PodFailed", String::new()))
    } else if ready {
        None
    } else {
        Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
    };
    let mut conditions: Vec<PodCondition> = old
        .conditions
        .iter()
        .flatten()
        .filter(|condition| {
            !matches!(condition.type_.as_str(), "Initialized" | "Ready" | "ContainersReady" | "PodScheduled")
        })
        .cloned()
        .collect();
    let not_initialized = (!initialized).then(|| ("ContainersNotInitialized", String::new()));
    for (name, holds, why) in [
        ("PodScheduled", true, None),
        ("Initialized", initialized, not_initialized),
        ("ContainersReady", ready, why_not.clone()),
        ("Ready", ready, why_not),
    ] {
        conditions.push(condition(&old, name, holds, why, now));
    }
    let by_node: u32 = containers.iter().map(|shown| shown.record.lost).sum();
    conditions.retain(|condition| condition.type_ != crate::jobs::LOST);
    if by_node > 0 {
        let why = Some(("NodeStopped", by_node.to_string()));
        conditions.push(condition(&old, crate::jobs::LOST, true, why, now));
    }
    let lost = containers
        .iter()
        .find_map(|shown| match &shown.record.state {
            State::Exited(exit) if exit.reason == "NodeLost" => Some(exit),
            State::Exited(_) | State::Created | State::Running { .. } => None,
        })
        .filter(|_| phase == Phase::Failed)
        .map(|exit| (exit.reason.clone(), exit.message.clone().unwrap_or_default()));
    let (reason, message) = whole.failed.clone().or(lost).unzip();
    PodStatus {
        phase: Some(phase.name().into()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: Some(whole.host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: whole.host_ip.clone() }]),
        pod_ip: whole.pod_ip.clone(),
        pod_ips: whole.pod_ip.clone().map(|ip| vec![PodIP { ip }]),
        start_time: whole.start.map(Time),
        qos_class: Some(old.qos_class.unwrap_or_else(|| "BestEffort".into())),
        container_statuses: statuses(|role| role == Role::Main),
        init_container_statuses: statuses(|role| role != Role::Main),
        ..PodStatus::default()
    }
}

fn is_ready(shown: &Shown<'_>) -> bool {
    shown.ready && matches!(shown.record.state, State::Running { .. })
}

fn condition(old: &PodStatus, name: &str, holds: bool, why: Option<(&str, String)>, now: Timestamp) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let since = old
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == name && condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    let (reason, message) = why.unzip();
    PodCondition {
        type_: name.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        message: message.filter(|message| !message.is_empty()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..PodCondition::default()
    }
}

fn container(shown: &Shown<'_>, initialized: bool) -> ContainerStatus {
    let image = shown.container.image.clone().unwrap_or_default();
    let record = shown.record;
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..ContainerState::default()
    };
    let mut last = record.last.as_ref();
    let state = match (&record.state, shown.waiting) {
        (State::Created, Some(why)) => waiting(why.reason, Some(why.message.clone())),
        (State::Created, None) if shown.role == Role::Main && !initialized => waiting("PodInitializing", None),
        (State::Created, None) => waiting("ContainerCreating", None),
        (State::Running { started, .. }, _) => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*started)) }),
            ..ContainerState::default()
        },
        (State::Exited(exit), Some(why)) => {
            last = Some(exit);
            waiting(why.reason, Some(why.message.clone()))
        }
        (State::Exited(exit), None) => terminated(exit),
    };
    let running = matches!(record.state, State::Running { .. });
    let done = matches!(&record.state, State::Exited(exit) if exit.code == 0);
    ContainerStatus {
        name: shown.container.name.clone(),
        image: image.clone(),
        image_id: image,
        ready: if shown.role == Role::Init { done } else { is_ready(shown) },
        started: Some(running && shown.up),
        restart_count: i32::try_from(record.restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.map(terminated).unwrap_or_default()),
        container_id: match &record.state {
            State::Running { pid, ticks, .. } => Some(format!("process://{pid}-{ticks}")),
            State::Created | State::Exited(_) => None,
        },
        ..ContainerStatus::default()
    }
}

fn terminated(exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: exit.code,
            reason: Some(exit.reason.clone()),
            message: exit.message.clone(),
            started_at: Some(Time(exit.started)),
            finished_at: Some(Time(exit.finished)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_crashing_container_shows_both_states() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .expect("a pod");
        let mut record = Record::default();
        record.started(5, 7, at(10));
        record.exited(Exit {
            code: 3,
            reason: "Error".into(),
            message: Some("bad".into()),
            started: at(10),
            finished: at(11),
        });
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let waiting = Waiting { reason: "CrashLoopBackOff", message: "back-off".into() };
        let shown =
            Shown { role: Role::Main, container, record: &record, waiting: Some(&waiting), up: true, ready: true };
        let status = compute(&pod, &[shown], &Whole { host_ip: "127.0.0.1".into(), ..Whole::default() }, at(12));
        assert_eq!(
            serde_json::to_value(&status).expect("json"),
            json!({
                "phase": "Running", "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}], "qosClass": "BestEffort",
                "conditions": [
                    {"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:12Z"},
                    {"type": "Initialized", "status": "True", "lastTransitionTime": "1970-01-01T00:00:12Z"},
                    {"type": "ContainersReady", "status": "False", "lastTransitionTime": "1970-01-01T00:00:12Z",
                     "reason": "ContainersNotReady", "message": "containers with unready status: [c]"},
                    {"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:12Z",
                     "reason": "ContainersNotReady", "message": "containers with unready status: [c]"},
                ],
                "containerStatuses": [{
                    "name": "c", "image": "i", "imageID": "i", "ready": false, "started": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "bad",
                        "startedAt": "1970-01-01T00:00:10Z", "finishedAt": "1970-01-01T00:00:11Z"}},
                }],
            })
        );
    }
}
