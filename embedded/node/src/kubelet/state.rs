//! What the node remembers of a container, and keeps on disk beside its log.
//!
//! ```text
//! Created ──start──► Running ──exit──► Exited ──restart policy──► Running …
//! ```
//! A record that says Running after the node itself was killed is settled by
//! [`Record::lost`]: its process died with the node (parent-death signal) or is killed, if
//! the process id still belongs to the same start.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container with `restartPolicy: Always`: stays beside the main ones.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// The restart policy of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Every end is followed by a start.
    Always,
    /// An end with an exit code other than zero is followed by a start.
    OnFailure,
    /// The first end is the last.
    Never,
}

impl RestartPolicy {
    /// Reads the policy of a pod.
    pub fn of(pod: &Pod) -> Self {
        match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Says whether a container that ended with this code is started again.
    pub fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + the signal when a signal ended it.
    pub code: i32,
    /// `Completed`, `Error`, `DeadlineExceeded`, …
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// When the run started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum State {
    /// Never started.
    Created,
    /// Has a process.
    #[serde(rename_all = "camelCase")]
    Running {
        /// Its process id.
        pid: u32,
        /// The process's start time in clock ticks since boot: tells a reused id apart.
        ticks: u64,
        /// When it started.
        started: Timestamp,
    },
    /// Its process has ended.
    Exited(Exit),
}

/// What is remembered of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Where it is.
    pub state: State,
    /// How the run before ended.
    pub last: Option<Exit>,
    /// Starts after the first.
    pub restarts: u32,
    /// Ends in a row after a short life: the exponent of the back-off.
    pub failures: u32,
    /// Ends that were the node's doing.
    #[serde(default)]
    pub lost: u32,
}

impl Default for Record {
    fn default() -> Self {
        Self { state: State::Created, last: None, restarts: 0, failures: 0, lost: 0 }
    }
}

/// A run this long clears the back-off.
const STABLE_SECONDS: i64 = 600;
const LONGEST_BACKOFF: u64 = 300;

impl Record {
    /// Notes a start; the first is not a restart.
    pub fn started(&mut self, pid: u32, ticks: u64, now: Timestamp) {
        if let State::Exited(exit) = &self.state {
            self.last = Some(exit.clone());
            self.restarts += 1;
        }
        self.state = State::Running { pid, ticks, started: now };
    }

    /// Notes an end.
    pub fn exited(&mut self, exit: Exit) {
        let lived = exit.finished.duration_since(exit.started).as_secs();
        self.failures = if lived >= STABLE_SECONDS { 0 } else { self.failures + 1 };
        self.state = State::Exited(exit);
    }

    /// Notes that the process was lost together with the node that watched it.
    pub fn lost(&mut self, now: Timestamp) {
        if let State::Running { started, .. } = self.state {
            self.exited(Exit {
                code: 137,
                reason: "NodeLost".into(),
                message: Some("the node was stopped while the container ran".into()),
                started,
                finished: now,
            });
            // the container did nothing wrong: start it at once
            self.failures = 0;
            self.lost += 1;
        }
    }

    /// When it may be started again: at once after the first end, then 1, 2, 4 … times the base.
    pub fn restart_at(&self, base: std::time::Duration) -> Option<Timestamp> {
        let State::Exited(exit) = &self.state else { return None };
        let seconds = match self.failures {
            0 | 1 => 0.0,
            more => {
                let factor = 1_u64 << u64::from(more - 2).min(20);
                (base.as_secs_f64() * factor as f64).min(LONGEST_BACKOFF as f64)
            }
        };
        let wait = jiff::SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
        Some(exit.finished.saturating_add(wait).unwrap_or(exit.finished))
    }

    /// Reads a record; a file that is absent or torn gives a fresh one.
    pub fn load(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Writes the record so that a crash leaves the old or the new one.
    pub fn store(&self, path: &Path) -> std::io::Result<()> {
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, path)
    }
}

/// All containers of a pod with their roles, in the order in which they start.
pub fn members(pod: &Pod) -> Vec<(Role, Container)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let role = match container.restart_policy.as_deref() {
            Some("Always") => Role::Sidecar,
            _ => Role::Init,
        };
        (role, container.clone())
    });
    let main = spec.containers.iter().map(|container| (Role::Main, container.clone()));
    init.chain(main).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn exit(started: i64, finished: i64) -> Exit {
        Exit { code: 1, reason: "Error".into(), message: None, started: at(started), finished: at(finished) }
    }

    #[test]
    fn back_off_doubles_up_to_its_limit_and_is_forgiven() {
        let base = Duration::from_secs(10);
        let mut record = Record::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            record.started(1, 1, at(0));
            record.exited(exit(0, 5));
            waits.push(record.restart_at(base).expect("exited").as_second() - 5);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(record.restarts, 7);
        record.started(1, 1, at(0));
        record.exited(exit(0, 601));
        assert_eq!(record.restart_at(base), Some(at(601)));
    }

    #[test]
    fn a_lost_container_starts_again_at_once() {
        let mut record = Record::default();
        record.started(7, 9, at(1));
        record.lost(at(50));
        assert_eq!(record.restart_at(Duration::from_secs(10)), Some(at(50)));
        record.started(8, 10, at(50));
        assert_eq!(record.restarts, 1);
        assert_eq!(record.last.map(|exit| exit.code), Some(137));
    }

    #[test]
    fn records_survive_on_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("record.json");
        assert_eq!(Record::load(&path), Record::default());
        let mut record = Record::default();
        record.started(7, 9, at(1));
        record.store(&path).expect("written");
        assert_eq!(Record::load(&path), record);
    }
}
