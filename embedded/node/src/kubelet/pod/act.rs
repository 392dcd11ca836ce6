//! What a pod's task does next: prepare volumes, start containers, end those that failed a probe.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Message, RETRY, Worker, soonest};
use crate::events::Kind;
use crate::kubelet::cgroup::{Group, Limits};
use crate::kubelet::container::Recipe;
use crate::kubelet::decide;
use crate::kubelet::process::{self, Launch};
use crate::kubelet::running::Running;
use crate::kubelet::state::{Exit, RestartPolicy};
use crate::kubelet::status::Waiting;
use crate::kubelet::volumes::Preparer;
use crate::kubelet::{hooks, logs, probe};

/// How long a side-car gets to end when the pod's work is done.
const SIDECAR_GRACE: i64 = 5;

impl Worker {
    /// Does what is to be done now; returns when to look again.
    pub(super) async fn act(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        if self.record.failed.is_none()
            && let Some(deadline) = self.deadline()
            && !self.phase().is_terminal()
        {
            if now >= deadline {
                let message = "Pod was active on the node longer than the specified deadline";
                self.fail("DeadlineExceeded", message.into());
            } else {
                wake = Some(deadline);
            }
        }
        if let Some(at) = self.measure(now).await {
            wake = Some(soonest(wake, at));
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
        if let Some(at) = self.refresh_volumes(now).await {
            wake = Some(soonest(wake, at));
        }
        let next = decide::next(RestartPolicy::of(&self.pod), &self.members(), self.kubelet.restart_backoff, now);
        for &index in &next.backing_off {
            let slot = &mut self.slots[index];
            let message =
                format!("Back-off restarting failed container {} in pod {}", slot.container.name, self.record.name);
            let waiting = Waiting { reason: "CrashLoopBackOff", message };
            if slot.waiting.as_ref() != Some(&waiting) {
                self.kubelet.events.publish(&self.pod, Kind::Warning, "BackOff", &waiting.message).await;
            }
            slot.waiting = Some(waiting);
        }
        for index in next.stop {
            self.end(index, now, SIDECAR_GRACE, None);
        }
        if let Some(at) = self.kill_overdue(now) {
            wake = Some(soonest(wake, at));
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

    /// Evicts the pod when an empty directory holds more than its limit; returns when to measure again.
    async fn measure(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.record.failed.is_some() || self.volumes.is_none() || self.phase().is_terminal() {
            return None;
        }
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let limits: Vec<(String, String, u64)> = volumes
            .filter_map(|volume| {
                let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
                Some((volume.name.clone(), limit.0.clone(), crate::quantity::bytes(&limit.0)?))
            })
            .collect();
        if limits.is_empty() {
            return None;
        }
        if self.measure_at.is_some_and(|at| now < at) {
            return self.measure_at;
        }
        for (name, text, limit) in limits {
            let path = self.dir.join("volumes").join(&name);
            let used = tokio::task::spawn_blocking(move || crate::volumes::usage::used(&path)).await.unwrap_or(0);
            if used > limit {
                let message = format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{text}\".");
                self.kubelet.events.publish(&self.pod, Kind::Warning, "Evicted", &message).await;
                self.fail("Evicted", message);
                return Some(now);
            }
        }
        let period = SignedDuration::try_from(self.kubelet.usage_period).unwrap_or(SignedDuration::from_secs(10));
        self.measure_at = now.checked_add(period).ok();
        self.measure_at
    }

    /// Notes that the pod as a whole has failed.
    fn fail(&mut self, reason: &str, message: String) {
        self.record.failed = Some((reason.into(), message));
        if let Err(error) = self.save() {
            tracing::warn!(%error, pod = self.record.name, "pod record not written");
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        self.record.start?.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    async fn prepare_volumes(&mut self, now: Timestamp) {
        let facts = self.facts();
        let dir = self.dir.join("volumes");
        let root = self.kubelet.isolation == process::Isolation::Namespaces;
        let preparer = Preparer { client: &self.kubelet.client, pod: &self.pod, dir: &dir, facts: &facts, root };
        match preparer.prepare().await {
            Ok(prepared) => {
                self.volumes = Some(prepared.ready);
                self.refresh_at = prepared.renew;
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

    /// Brings mounted ConfigMaps, Secrets, tokens and labels up to date when it is time; returns when it is next.
    async fn refresh_volumes(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.volumes.is_none() || self.phase().is_terminal() {
            return None;
        }
        if !std::mem::take(&mut self.stale) && self.refresh_at.is_none_or(|at| now < at) {
            return self.refresh_at;
        }
        let facts = self.facts();
        let dir = self.dir.join("volumes");
        let root = self.kubelet.isolation == process::Isolation::Namespaces;
        let preparer = Preparer { client: &self.kubelet.client, pod: &self.pod, dir: &dir, facts: &facts, root };
        match preparer.refresh().await {
            Ok(renew) => self.refresh_at = renew,
            // what is mounted stays as it was
            Err(error) => {
                tracing::debug!(error, pod = self.record.name, "volumes not brought up to date");
                self.refresh_at = now.checked_add(SignedDuration::from_secs(10)).ok();
            }
        }
        self.refresh_at
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
            pod_dir: &self.dir,
            dir: &slot.dir,
            isolation: self.kubelet.isolation,
            services: &self.kubelet.services,
        };
        let mut launch = match recipe.launch().await {
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
        launch.group = self.limit(index).await;
        self.slots[index].group = launch.group.clone();
        let result = process::start(launch.clone()).await;
        let started = Timestamp::now();
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
                slot.persist();
                if let Some(group) = slot.group.take() {
                    group.remove();
                }
                self.kubelet.events.publish(&self.pod, Kind::Warning, "Failed", &format!("Error: {message}")).await;
            }
            Ok(process) => {
                slot.reset();
                slot.record.started(process.pid, process.ticks, started);
                slot.persist();
                self.attend(index, &launch, process);
            }
        }
        None
    }

    /// Makes the control group of a container with limits; says once where they cannot be enforced.
    async fn limit(&mut self, index: usize) -> Option<Group> {
        let slot = &self.slots[index];
        let limits = Limits::of(&slot.container);
        if limits == Limits::default() {
            return None;
        }
        let problem = if self.kubelet.groups.usable() {
            let name = format!("{}.{}", self.uid(), slot.container.name);
            match self.kubelet.groups.make(&name, &limits) {
                Ok(group) => return Some(group),
                Err(error) => error.to_string(),
            }
        } else {
            "the node may not make control groups on this machine".into()
        };
        if limits.bind() && !std::mem::replace(&mut self.told_of_limits, true) {
            let message = format!("resource limits are not enforced: {problem}");
            self.kubelet.events.publish(&self.pod, Kind::Warning, "LimitsNotEnforced", &message).await;
        }
        None
    }

    /// Takes care of a container that has just started: its log, its hook, its probes.
    fn attend(&mut self, index: usize, launch: &Launch, mut process: process::Process) {
        let events = self.kubelet.events.clone();
        let pod = Arc::new(self.pod.clone());
        let uid = self.uid().to_owned();
        let ip = self.record.ip;
        let slot = &mut self.slots[index];
        let run = slot.record.restarts;
        let running = Arc::new(Running::new(launch, &mut process, slot.container.stdin_once == Some(true)));
        self.kubelet.running.insert(&uid, &slot.container.name, running.clone());
        slot.running = Some(running.clone());
        slot.handle = Some(process.handle);
        // one log before the current one is kept
        if let Some(old) = run.checked_sub(2) {
            logs::remove(&slot.log(old));
        }
        let (log, path, sender) = (self.kubelet.logs.clone(), slot.log(run), self.sender.clone());
        let (out, err, end) = (process.out, process.err, process.end);
        let tee = running.output.clone();
        tokio::spawn(async move {
            let mut writing = tokio::spawn(async move {
                match err {
                    Some(err) => log.record(path, out, err, Some(tee)).await,
                    None => log.record(path, out, tokio::io::empty(), Some(tee)).await,
                }
            });
            let code = end.await.unwrap_or(255);
            // what it printed last is in the log before its end is told; a process that
            // left the group and keeps the pipe open does not hold this up
            if tokio::time::timeout(Duration::from_secs(3), &mut writing).await.is_err() {
                writing.abort();
            }
            // the pod's task may have ended before
            let _ = sender.send(Message::Ended { container: index, run, code });
        });
        let (name, image) = (slot.container.name.clone(), slot.container.image.clone().unwrap_or_default());
        let news = (events.clone(), pod.clone());
        tokio::spawn(async move {
            let (events, pod) = news;
            let present = format!("Container image \"{image}\" already present on machine");
            events.publish(pod.as_ref(), Kind::Normal, "Pulled", &present).await;
            events.publish(pod.as_ref(), Kind::Normal, "Created", &format!("Created container: {name}")).await;
            events.publish(pod.as_ref(), Kind::Normal, "Started", &format!("Started container {name}")).await;
        });
        if let Some(hook) = slot.container.lifecycle.as_ref().and_then(|hooks| hooks.post_start.clone()) {
            let (container, running, sender) = (slot.container.clone(), running.clone(), self.sender.clone());
            let task = tokio::spawn(async move {
                let error = hooks::run(&hook, &container, ip, &running).await.err();
                // the pod's task may have ended before
                let _ = sender.send(Message::Hooked { container: index, run, error });
            });
            slot.tasks.push(task.abort_handle());
        }
        let probes = [&slot.container.startup_probe, &slot.container.liveness_probe, &slot.container.readiness_probe];
        if let (true, Some(ip)) = (probes.iter().any(|probe| probe.is_some()), ip) {
            let subject = probe::Subject {
                pod,
                container: slot.container.clone(),
                ip,
                running,
                index,
                run,
                sender: self.sender.clone(),
                events,
            };
            slot.tasks.push(tokio::spawn(probe::keep(subject)).abort_handle());
        }
    }
}
