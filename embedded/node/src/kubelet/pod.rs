//! One pod from its arrival on the node to its removal: a task that owns its containers.
//!
//! The task waits for one of: a change of the object, the end of a container, a moment that
//! it set itself. Then it asks [`decide::next`] what to do, does it, and writes the status.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::container::Recipe;
use super::decide::{self, Member, Phase};
use super::env::Facts;
use super::process::{self, Handle};
use super::state::{self, Exit, Record, RestartPolicy, Role, State};
use super::status::{self, Shown, Waiting, Whole};
use super::volumes::{self, Preparer, Ready};
use super::{Kubelet, probe};
use crate::events::Kind;

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
    /// A readiness probe changed its mind.
    Ready {
        /// The container's position.
        container: usize,
        /// Which of its runs.
        run: u32,
        /// The answer.
        ready: bool,
    },
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

struct Slot {
    role: Role,
    container: Container,
    record: Record,
    handle: Option<Handle>,
    probe: Option<tokio::task::AbortHandle>,
    waiting: Option<Waiting>,
    retry: Option<Timestamp>,
    ready: bool,
    dir: PathBuf,
}

impl Slot {
    fn is_running(&self) -> bool {
        matches!(self.record.state, State::Running { .. })
    }
}

/// An end that is under way.
struct Stopping {
    kill_at: Timestamp,
    asked_main: bool,
    asked_sidecars: bool,
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
            let mut slot = Slot {
                role,
                record: Record::load(&dir.join("record.json")),
                ready: container.readiness_probe.is_none(),
                container,
                handle: None,
                probe: None,
                waiting: None,
                retry: None,
                dir,
            };
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
        self.slots.iter().map(|slot| Member { role: slot.role, record: &slot.record }).collect()
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
            Message::Changed(pod) => self.pod = *pod,
            Message::Gone => self.gone = true,
            Message::Ended { container, run, code } => self.ended(container, run, code),
            Message::Ready { container, run, ready } => {
                if let Some(slot) = self.slots.get_mut(container)
                    && slot.record.restarts == run
                {
                    slot.ready = ready;
                }
            }
        }
    }

    fn ended(&mut self, index: usize, run: u32, code: i32) {
        let deadline = self.record.failed.as_ref().map(|(reason, _)| reason.clone());
        let Some(slot) = self.slots.get_mut(index) else { return };
        let State::Running { started, .. } = slot.record.state else { return };
        if slot.record.restarts != run {
            return;
        }
        let message = termination_message(slot, run, code);
        slot.handle = None;
        if let Some(probe) = slot.probe.take() {
            probe.abort();
        }
        slot.ready = slot.container.readiness_probe.is_none();
        let reason = match (deadline, code) {
            (_, 0) => "Completed".into(),
            (Some(reason), _) => reason,
            (None, _) => "Error".into(),
        };
        slot.record.exited(Exit { code, reason, message, started, finished: Timestamp::now() });
        persist(slot);
        // the tree that it saw is of no more use
        let _ = std::fs::remove_dir_all(slot.dir.join("root"));
    }

    /// Does what is to be done now; returns when to look again.
    async fn act(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        if self.record.failed.is_none()
            && let Some(deadline) = self.deadline()
            && !self.phase().is_terminal()
        {
            if now >= deadline {
                let message = "Pod was active on the node longer than the specified deadline";
                self.record.failed = Some(("DeadlineExceeded".into(), message.into()));
                if let Err(error) = self.save() {
                    tracing::warn!(%error, pod = self.record.name, "pod record not written");
                }
            } else {
                wake = Some(deadline);
            }
        }
        let deleted = self.pod.metadata.deletion_timestamp.is_some() || self.gone;
        if deleted || self.record.failed.is_some() {
            return self.stop(now).or(wake);
        }
        if self.volumes.is_none() && !self.phase().is_terminal() {
            if self.volumes_at.is_none_or(|at| now >= at) {
                self.prepare_volumes(now).await;
            }
            if self.volumes.is_none() {
                return Some(wake.map_or_else(
                    || self.volumes_at.unwrap_or(now + RETRY),
                    |wake: Timestamp| wake.min(self.volumes_at.unwrap_or(now + RETRY)),
                ));
            }
        }
        let next = decide::next(RestartPolicy::of(&self.pod), &self.members(), self.kubelet.restart_backoff, now);
        for &index in &next.backing_off {
            let slot = &mut self.slots[index];
            slot.waiting = Some(Waiting {
                reason: "CrashLoopBackOff",
                message: format!(
                    "back-off restarting failed container {} in pod {}",
                    slot.container.name, self.record.name
                ),
            });
        }
        for index in next.stop {
            if let Some(handle) = &self.slots[index].handle {
                handle.terminate();
            }
        }
        if self.phase().is_terminal() && self.any_running() {
            // side-cars get a short time of their own once the work is done
            let stopping = self.stopping.get_or_insert(Stopping {
                kill_at: now + SignedDuration::from_secs(5),
                asked_main: true,
                asked_sidecars: true,
            });
            if now >= stopping.kill_at {
                self.kill_all();
            }
            wake = self.stopping.as_ref().map(|stopping| stopping.kill_at.max(now + RETRY));
        }
        for index in next.start {
            if self.slots[index].retry.is_some_and(|at| at > now) {
                wake = self.slots[index].retry.map(|at| soonest(wake, at));
                continue;
            }
            if let Some(retry) = self.start(index, now).await {
                wake = Some(soonest(wake, retry));
            } else {
                // what the start means for the others is decided at once
                wake = Some(now);
            }
        }
        match (wake, next.wake) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        self.record.start?.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    async fn prepare_volumes(&mut self, now: Timestamp) {
        let facts = self.facts();
        let dir = self.dir.join("volumes");
        let preparer = Preparer { client: &self.kubelet.client, pod: &self.pod, dir: &dir, facts: &facts };
        match preparer.prepare().await {
            Ok(volumes) => {
                self.volumes = Some(volumes);
                for slot in &mut self.slots {
                    slot.waiting = None;
                }
            }
            Err(message) => {
                let fresh = self.volumes_at.is_none();
                self.volumes_at = Some(now + RETRY);
                if fresh {
                    let events = &self.kubelet.events;
                    events.publish(&self.pod, Kind::Warning, "FailedMount", &message).await;
                }
                for slot in &mut self.slots {
                    slot.waiting = Some(Waiting { reason: "ContainerCreating", message: message.clone() });
                }
            }
        }
    }

    /// Starts a container; returns when to try again, if it has to wait.
    async fn start(&mut self, index: usize, now: Timestamp) -> Option<Timestamp> {
        let facts = self.facts();
        let empty = BTreeMap::new();
        let slot = &self.slots[index];
        let recipe = Recipe {
            client: &self.kubelet.client,
            images: &self.kubelet.images,
            pod: &self.pod,
            container: &slot.container,
            volumes: self.volumes.as_ref().unwrap_or(&empty),
            facts: &facts,
            dir: &slot.dir,
            isolated: self.kubelet.isolated,
        };
        let launch = match recipe.launch().await {
            Ok(launch) => launch,
            Err(waiting) => {
                let retry = now + RETRY;
                if slot.waiting.as_ref() != Some(&waiting) {
                    let events = &self.kubelet.events;
                    events.publish(&self.pod, Kind::Warning, "Failed", &waiting.message).await;
                }
                let slot = &mut self.slots[index];
                slot.waiting = Some(waiting);
                slot.retry = Some(retry);
                return Some(retry);
            }
        };
        let result = process::start(launch).await;
        let started = Timestamp::now();
        let facts_ip = self.record.ip;
        let slot = &mut self.slots[index];
        slot.waiting = None;
        slot.retry = None;
        match result {
            Err(error) => {
                slot.record.started(0, 0, started);
                let message = error.to_string();
                slot.record.exited(Exit {
                    code: 128,
                    reason: "StartError".into(),
                    message: Some(message.clone()),
                    started,
                    finished: started,
                });
                persist(slot);
                self.kubelet.events.publish(&self.pod, Kind::Warning, "Failed", &message).await;
            }
            Ok(process) => {
                slot.record.started(process.pid, process.ticks, started);
                persist(slot);
                let run = slot.record.restarts;
                slot.handle = Some(process.handle);
                let log = self.kubelet.logs.clone();
                let path = slot.dir.join(format!("{run}.log"));
                // one log before the current one is kept
                if let Some(old) = run.checked_sub(2) {
                    let _ = std::fs::remove_file(slot.dir.join(format!("{old}.log")));
                }
                let sender = self.sender.clone();
                let (out, err, end) = (process.out, process.err, process.end);
                tokio::spawn(async move {
                    let mut writing = tokio::spawn(async move { log.record(path, out, err).await });
                    let code = end.await.unwrap_or(255);
                    // what it printed last is in the log before its end is told; a process that
                    // left the group and keeps the pipe open does not hold this up
                    if tokio::time::timeout(Duration::from_secs(3), &mut writing).await.is_err() {
                        writing.abort();
                    }
                    // the pod's task may have ended before
                    let _ = sender.send(Message::Ended { container: index, run, code });
                });
                if let (Some(probe), Some(ip)) = (&slot.container.readiness_probe, facts_ip) {
                    slot.ready = false;
                    let task =
                        probe::readiness(probe.clone(), slot.container.clone(), ip, index, run, self.sender.clone());
                    slot.probe = Some(tokio::spawn(task).abort_handle());
                }
            }
        }
        None
    }

    /// Ends everything: first the main containers, then the side-cars, by force at the end of
    /// the grace period.
    fn stop(&mut self, now: Timestamp) -> Option<Timestamp> {
        let grace = self
            .pod
            .metadata
            .deletion_grace_period_seconds
            .or_else(|| self.pod.spec.as_ref()?.termination_grace_period_seconds)
            .unwrap_or(30);
        let limit = now + SignedDuration::from_secs(grace.clamp(0, 1 << 30));
        let stopping =
            self.stopping.get_or_insert(Stopping { kill_at: limit, asked_main: false, asked_sidecars: false });
        // a second deletion may shorten the grace, never lengthen it
        stopping.kill_at = stopping.kill_at.min(limit);
        let kill_at = stopping.kill_at;
        let asked_main = std::mem::replace(&mut stopping.asked_main, true);
        let mains_run = self.slots.iter().any(|slot| slot.is_running() && slot.role != Role::Sidecar);
        if !self.any_running() {
            return None;
        }
        if now >= kill_at {
            self.kill_all();
            return Some(now + RETRY);
        }
        if !asked_main {
            self.terminate(|role| role != Role::Sidecar);
        }
        if !mains_run
            && let Some(stopping) = &mut self.stopping
            && !std::mem::replace(&mut stopping.asked_sidecars, true)
        {
            self.terminate(|role| role == Role::Sidecar);
        }
        Some(kill_at)
    }

    fn terminate(&self, wanted: impl Fn(Role) -> bool) {
        let qmp = crate::kubevirt::qmp_socket(&self.pod, &self.dir.join("volumes"));
        for slot in self.slots.iter().filter(|slot| wanted(slot.role)) {
            let Some(handle) = &slot.handle else { continue };
            match &qmp {
                Some((container, socket)) if *container == slot.container.name => {
                    crate::kubevirt::qmp::power_down_or(socket.clone(), handle.clone());
                }
                _ => handle.terminate(),
            }
        }
    }

    fn kill_all(&self) {
        for handle in self.slots.iter().filter_map(|slot| slot.handle.as_ref()) {
            handle.kill();
        }
    }

    /// Writes the status if it differs from what was written; false: try again.
    async fn write_status(&mut self) -> bool {
        if self.gone {
            return true;
        }
        let shown: Vec<Shown<'_>> = self
            .slots
            .iter()
            .map(|slot| Shown {
                role: slot.role,
                container: &slot.container,
                record: &slot.record,
                waiting: slot.waiting.as_ref(),
                ready: slot.ready,
            })
            .collect();
        let whole = Whole {
            pod_ip: self.record.ip.map(|ip| ip.to_string()),
            host_ip: self.kubelet.facts.host_ip.clone(),
            start: self.record.start,
            failed: self.record.failed.clone(),
        };
        let status = status::compute(&self.pod, &shown, &whole, Timestamp::now());
        let Ok(value) = serde_json::to_value(&status) else { return true };
        if self.written.as_ref() == Some(&value) {
            return true;
        }
        // conditions keep their times from one write to the next
        self.pod.status = Some(status);
        let patch = json!({"metadata": {"uid": self.uid()}, "status": value});
        match self.api().patch_status(&self.record.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                self.written = Some(value);
                true
            }
            // gone, or another pod of that name: the watch will tell
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => true,
            Err(error) => {
                tracing::warn!(%error, pod = self.record.name, "pod status not written");
                false
            }
        }
    }

    /// Removes the object once nothing of the pod runs; true when this task has nothing left.
    async fn finish_deletion(&self) -> bool {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid().to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        if let Err(error) = self.api().delete(&self.record.name, &params).await
            && !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
        {
            tracing::warn!(%error, pod = self.record.name, "pod not removed");
        }
        // finalizers may keep the object: the watch tells when it is gone
        false
    }

    /// Gives back what a finished pod needs no more; its logs stay.
    fn release(&mut self) {
        if std::mem::replace(&mut self.released, true) {
            return;
        }
        self.kubelet.addresses.release(self.uid());
        volumes::release(&self.dir.join("volumes"));
    }

    /// Removes the files of a pod that exists no more.
    fn forget(&self) {
        self.kubelet.addresses.release(self.uid());
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %self.dir.display(), "files of a removed pod are left");
        }
    }

    /// The node stops, the pods do not end: their records go on saying Running, so that the
    /// next start of the node restarts what its restart policy wants restarted.
    async fn node_stops(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        self.terminate(|_| true);
        let mut left: Vec<usize> =
            self.slots.iter().enumerate().filter(|(_, slot)| slot.is_running()).map(|(index, _)| index).collect();
        // by request first, then by force; the node has stopped when its processes have
        for wait in [self.kubelet.shutdown_grace, Duration::from_secs(5)] {
            let limit = tokio::time::sleep(wait);
            tokio::pin!(limit);
            while !left.is_empty() {
                tokio::select! {
                    () = &mut limit => break,
                    message = inbox.recv() => match message {
                        Some(Message::Ended { container, .. }) => left.retain(|index| *index != container),
                        Some(_) => {}
                        None => break,
                    },
                }
            }
            self.kill_all();
        }
        // letting go of a handle kills what is left
        self.slots.clear();
        volumes::release(&self.dir.join("volumes"));
    }
}

fn soonest(one: Option<Timestamp>, other: Timestamp) -> Timestamp {
    one.map_or(other, |one| one.min(other))
}

fn persist(slot: &Slot) {
    if let Err(error) = slot.record.store(&slot.dir.join("record.json")) {
        tracing::warn!(%error, container = slot.container.name, "container record not written");
    }
}

/// Reads the termination message: the file, or the last lines of the log where that is asked.
fn termination_message(slot: &Slot, run: u32, code: i32) -> Option<String> {
    use std::io::Read;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(Recipe::termination_log(&slot.dir)) {
        // as much as Kubernetes keeps
        let _ = file.take(4096).read_to_end(&mut text);
    }
    if !text.is_empty() {
        return Some(String::from_utf8_lossy(&text).into_owned());
    }
    let from_log = slot.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    (from_log && code != 0).then(|| super::logs::last_words(&slot.dir.join(format!("{run}.log")))).flatten()
}
