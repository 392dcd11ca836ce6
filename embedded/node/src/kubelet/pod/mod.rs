//! One pod from its arrival on the node to its removal: a task that owns its containers.
//!
//! The task waits for one of: a change of the object, the end of a container, a moment that
//! it set itself. Then it asks [`decide::next`] what to do, does it, and writes the status.

mod act;
mod report;
mod slot;
mod stop;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Kubelet;
use super::decide::{self, Member, Phase};
use super::env::Facts;
use super::probe::Purpose;
use super::process;
use super::state::{self, Exit, RestartPolicy, State};
use super::volumes::Ready;
use crate::events::Kind;
use slot::Slot;

/// What a pod's task is told.
#[derive(Debug)]
pub enum Message {
    /// The object changed.
    Changed(Box<Pod>),
    /// The object is gone.
    Gone,
    /// A run of a container ended.
    Ended {
        /// The container's position.
        container: usize,
        /// Which of its runs.
        run: u32,
        /// The exit code.
        code: i32,
    },
    /// A probe has come to an answer.
    Probed {
        /// The container's position.
        container: usize,
        /// Which of its runs.
        run: u32,
        /// Which probe.
        purpose: Purpose,
        /// The answer.
        good: bool,
    },
    /// The hook after a start has run.
    Hooked {
        /// The container's position.
        container: usize,
        /// Which of its runs.
        run: u32,
        /// Why it failed.
        error: Option<String>,
    },
    /// A mounted ConfigMap or Secret has changed.
    Stale,
}

/// What is kept on disk of a pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// When the node took it on.
    pub start: Option<Timestamp>,
    /// A failure of the pod as a whole: reason and message.
    pub failed: Option<(String, String)>,
}

/// An end of the whole pod that is under way.
struct Stopping {
    limit: Timestamp,
}

/// A pod's task.
pub struct Worker {
    kubelet: Arc<Kubelet>,
    pod: Pod,
    dir: PathBuf,
    record: PodRecord,
    slots: Vec<Slot>,
    volumes: Option<BTreeMap<String, Ready>>,
    volumes_at: Option<Timestamp>,
    refresh_at: Option<Timestamp>,
    measure_at: Option<Timestamp>,
    stale: bool,
    told_of_limits: bool,
    stopping: Option<Stopping>,
    gone: bool,
    released: bool,
    written: Option<Value>,
    sender: mpsc::UnboundedSender<Message>,
}

/// How long a wait for something outside is, before it is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

impl Worker {
    /// Takes a pod on; what an earlier node left of it is settled first.
    pub fn new(kubelet: Arc<Kubelet>, pod: Pod, sender: mpsc::UnboundedSender<Message>) -> std::io::Result<Self> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let dir = kubelet.pods_dir().join(&uid);
        std::fs::create_dir_all(dir.join("volumes"))?;
        let mut record: PodRecord = std::fs::read(dir.join("pod.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let now = Timestamp::now();
        record.namespace = pod.metadata.namespace.clone().unwrap_or_default();
        record.name = pod.metadata.name.clone().unwrap_or_default();
        record.start.get_or_insert(now);
        let mut slots = Vec::new();
        for (role, container) in state::members(&pod) {
            let dir = dir.join("containers").join(&container.name);
            std::fs::create_dir_all(&dir)?;
            let mut slot = Slot::new(role, container, dir);
            if let State::Running { pid, ticks, .. } = slot.record.state {
                process::kill_leftover(pid, ticks);
                slot.record.lost(now);
                slot.record.store(&slot.dir.join("record.json"))?;
            }
            slots.push(slot);
        }
        let mut worker = Self {
            kubelet,
            pod,
            dir,
            record,
            slots,
            volumes: None,
            volumes_at: None,
            refresh_at: None,
            measure_at: None,
            stale: false,
            told_of_limits: false,
            stopping: None,
            gone: false,
            released: false,
            written: None,
            sender,
        };
        if !worker.phase().is_terminal() {
            let uid = worker.uid().to_owned();
            worker.record.ip = worker.kubelet.addresses.take(&uid, worker.record.ip);
        }
        worker.save()?;
        Ok(worker)
    }

    fn save(&self) -> std::io::Result<()> {
        let fresh = self.dir.join("pod.new");
        std::fs::write(&fresh, serde_json::to_vec(&self.record)?)?;
        std::fs::rename(fresh, self.dir.join("pod.json"))
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &self.record.namespace)
    }

    fn facts(&self) -> Facts {
        Facts { pod_ip: self.record.ip.map(|ip| ip.to_string()).unwrap_or_default(), ..self.kubelet.facts.clone() }
    }

    fn members(&self) -> Vec<Member<'_>> {
        self.slots.iter().map(|slot| Member { role: slot.role, record: &slot.record, up: slot.is_up() }).collect()
    }

    fn phase(&self) -> Phase {
        if self.record.failed.is_some() {
            return Phase::Failed;
        }
        decide::phase(RestartPolicy::of(&self.pod), &self.members())
    }

    /// Lives until the pod is removed or the node stops.
    pub async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let shutdown = self.kubelet.shutdown.clone();
        loop {
            let wake = self.act(Timestamp::now()).await;
            let status_failed = !self.write_status().await;
            if (self.gone || self.pod.metadata.deletion_timestamp.is_some()) && !self.any_running() {
                self.release();
                if self.gone || self.finish_deletion().await {
                    self.forget();
                    return;
                }
            } else if self.phase().is_terminal() && !self.any_running() {
                self.release();
            }
            let wake = if status_failed { Some(soonest(wake, Timestamp::now() + RETRY)) } else { wake };
            let pause = wake.map(|at| {
                let left = at.duration_since(Timestamp::now());
                Duration::try_from(left).unwrap_or_default()
            });
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                message = inbox.recv() => match message {
                    Some(message) => self.receive(message),
                    None => break,
                },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
        self.node_stops(inbox).await;
    }

    fn any_running(&self) -> bool {
        self.slots.iter().any(Slot::is_running)
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Changed(pod) => {
                // what the downward API shows of the object may have changed with it
                self.stale |= pod.metadata.labels != self.pod.metadata.labels
                    || pod.metadata.annotations != self.pod.metadata.annotations;
                self.pod = *pod;
            }
            Message::Gone => self.gone = true,
            Message::Ended { container, run, code } => self.ended(container, run, code),
            Message::Probed { container, run, purpose, good } => self.probed(container, run, purpose, good),
            Message::Hooked { container, run, error } => self.hooked(container, run, error),
            Message::Stale => self.stale = true,
        }
    }

    /// The slot of a run that is still the current one.
    fn current(&mut self, index: usize, run: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index).filter(|slot| slot.is_running() && slot.record.restarts == run)
    }

    fn probed(&mut self, index: usize, run: u32, purpose: Purpose, good: bool) {
        let Some(slot) = self.current(index, run) else { return };
        let (name, probe) = match purpose {
            Purpose::Readiness => {
                slot.ready = good;
                return;
            }
            Purpose::Startup if good => {
                slot.started = true;
                return;
            }
            Purpose::Startup => ("startup", &slot.container.startup_probe),
            Purpose::Liveness => ("liveness", &slot.container.liveness_probe),
        };
        let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
        let message = format!("Container {} failed {name} probe, will be restarted", slot.container.name);
        let spec = self.pod.spec.as_ref();
        let grace = own.or_else(|| spec?.termination_grace_period_seconds).unwrap_or(30);
        self.end(index, Timestamp::now(), grace.max(1), Some(message));
    }

    fn hooked(&mut self, index: usize, run: u32, error: Option<String>) {
        let Some(slot) = self.current(index, run) else { return };
        let Some(error) = error else {
            slot.hooked = true;
            return;
        };
        let name = slot.container.name.clone();
        let (events, pod) = (self.kubelet.events.clone(), self.pod.clone());
        let message = format!("PostStartHook failed: {error}");
        tokio::spawn(async move { events.publish(&pod, Kind::Warning, "FailedPostStartHook", &message).await });
        self.end(index, Timestamp::now(), self.grace(), Some(format!("Container {name} failed its PostStart hook")));
    }

    fn ended(&mut self, index: usize, run: u32, code: i32) {
        let failed = self.record.failed.as_ref().map(|(reason, _)| reason.clone());
        let uid = self.uid().to_owned();
        let kubelet = self.kubelet.clone();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let State::Running { started, .. } = slot.record.state else { return };
        if slot.record.restarts != run {
            return;
        }
        let message = slot.termination_message(run, code);
        slot.handle = None;
        kubelet.running.remove(&uid, &slot.container.name);
        slot.reset();
        let out_of_memory = slot.group.as_ref().is_some_and(|group| group.out_of_memory());
        if let Some(group) = slot.group.take() {
            group.remove();
        }
        let reason = match failed {
            _ if code == 0 => "Completed".into(),
            _ if out_of_memory => "OOMKilled".into(),
            Some(reason) if reason == "DeadlineExceeded" => reason,
            _ => "Error".into(),
        };
        slot.record.exited(Exit { code, reason, message, started, finished: Timestamp::now() });
        slot.persist();
        // the tree that it saw is of no more use
        let _ = std::fs::remove_dir_all(slot.dir.join("root"));
    }
}

fn soonest(one: Option<Timestamp>, other: Timestamp) -> Timestamp {
    one.map_or(other, |one| one.min(other))
}
