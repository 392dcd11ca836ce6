//! Startup, liveness and readiness probes of a running container.
//!
//! ```text
//! start ── startup probe until it succeeds ──┬── readiness: tells whenever the answer changes
//!            (too often bad: the container    └── liveness: too often bad: the container is ended
//!             is ended)
//! ```
//! Field defaults and thresholds are those of the Probe type in Kubernetes' API.

mod check;
mod grpc;
mod tls;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use tokio::sync::mpsc;

use super::pod::Message;
use super::running::Running;
use crate::events::{Events, Kind};

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Holds the other probes back until it succeeds.
    Startup,
    /// Ends the container when it fails.
    Liveness,
    /// Takes the container out of services while it fails.
    Readiness,
}

impl Purpose {
    /// The word that events begin with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// A container that is probed.
#[derive(Clone)]
pub struct Subject {
    /// Its pod, for events.
    pub pod: Arc<Pod>,
    /// Its declaration.
    pub container: Container,
    /// Its pod's address.
    pub ip: Ipv4Addr,
    /// Its processes.
    pub running: Arc<Running>,
    /// Its position in the pod.
    pub index: usize,
    /// Which of its runs.
    pub run: u32,
    /// Who is told.
    pub sender: mpsc::UnboundedSender<Message>,
    /// Where failures are shown.
    pub events: Events,
}

/// Probes until the container ends; tells whenever an answer changes.
pub async fn keep(subject: Subject) {
    let container = subject.container.clone();
    if let Some(probe) = &container.startup_probe
        && !until(&subject, probe, Purpose::Startup, true, true).await
    {
        return;
    }
    let readiness = async {
        if let Some(probe) = &container.readiness_probe {
            let (mut ready, mut first) = (false, true);
            while until(&subject, probe, Purpose::Readiness, !ready, first).await {
                (ready, first) = (!ready, false);
            }
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            until(&subject, probe, Purpose::Liveness, false, true).await;
        }
    };
    tokio::join!(readiness, liveness);
}

/// Probes until the answer has been `wanted` as often in a row as the threshold says; a startup probe that fails too
/// often ends the wait as well. The initial delay is for the `first` attempt. False: there is nothing more to probe.
async fn until(subject: &Subject, probe: &Probe, purpose: Purpose, wanted: bool, first: bool) -> bool {
    let plan = Plan::of(probe);
    let mut counter = Counter::default();
    let mut pause = if first { plan.delay } else { plan.period };
    loop {
        tokio::time::sleep(pause).await;
        pause = plan.period;
        let answer = match tokio::time::timeout(plan.limit, check::once(probe, subject)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("timeout: no answer within {} s", plan.limit.as_secs())),
        };
        let good = answer.is_ok();
        let reached = counter.count(good, &plan);
        if let Err(message) = answer
            && (counter.in_a_row == 1 || reached)
        {
            let message = format!("{} probe failed: {message}", purpose.name());
            subject.events.publish(subject.pod.as_ref(), Kind::Warning, "Unhealthy", &message).await;
        }
        if !reached || (good != wanted && purpose != Purpose::Startup) {
            continue;
        }
        let message = Message::Probed { container: subject.index, run: subject.run, purpose, good };
        return subject.sender.send(message).is_ok() && good == wanted;
    }
}

/// The times and thresholds of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plan {
    delay: Duration,
    period: Duration,
    limit: Duration,
    up: u32,
    down: u32,
}

impl Plan {
    fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(number(value, default).into());
        Self {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            limit: seconds(probe.timeout_seconds, 1),
            up: number(probe.success_threshold, 1),
            down: number(probe.failure_threshold, 3),
        }
    }
}

/// Answers in a row that agree.
#[derive(Debug, Default)]
struct Counter {
    last: Option<bool>,
    in_a_row: u32,
}

impl Counter {
    /// Counts an answer; true when as many agree as the threshold wants.
    fn count(&mut self, good: bool, plan: &Plan) -> bool {
        self.in_a_row = if self.last == Some(good) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(good);
        self.in_a_row >= if good { plan.up } else { plan.down }
    }
}

/// Asks a path of a container over HTTP, as its hooks do; an answer below 400 is good.
pub async fn http(action: &HTTPGetAction, container: &Container, ip: Ipv4Addr) -> Result<(), String> {
    check::http(action, container, ip).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let probe: Probe =
            serde_json::from_value(json!({"successThreshold": 2, "failureThreshold": 3})).expect("a probe");
        let plan = Plan::of(&probe);
        assert_eq!((plan.delay.as_secs(), plan.period.as_secs(), plan.limit.as_secs()), (0, 10, 1));
        let mut counter = Counter::default();
        let reached: Vec<bool> =
            [true, true, false, false, true, false, false, false].map(|good| counter.count(good, &plan)).into();
        assert_eq!(reached, [false, true, false, false, false, false, false, true]);
    }
}
