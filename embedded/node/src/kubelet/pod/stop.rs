//! How containers of a pod end: hook, request, force.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::slot::Ending;
use super::{Message, RETRY, Stopping, Worker, soonest};
use crate::events::Kind;
use crate::kubelet::state::Role;
use crate::kubelet::{hooks, volumes};

/// What a container has left after a hook that used the whole grace period, in seconds: as kubelet gives.
const AFTER_HOOK: i64 = 2;

impl Worker {
    /// The pod's own grace period in seconds.
    pub(super) fn grace(&self) -> i64 {
        let spec = self.pod.spec.as_ref();
        let deletion = self.pod.metadata.deletion_grace_period_seconds;
        let grace = deletion.or_else(|| spec?.termination_grace_period_seconds).unwrap_or(30);
        grace.clamp(0, 1 << 30)
    }

    /// Ends everything: first the main containers, then the side-cars, by force at the end of
    /// the grace period.
    pub(super) fn stop(&mut self, now: Timestamp) -> Option<Timestamp> {
        let limit = now + SignedDuration::from_secs(self.grace());
        let stopping = self.stopping.get_or_insert(Stopping { limit });
        // a second deletion may shorten the grace, never lengthen it
        stopping.limit = stopping.limit.min(limit);
        let limit = stopping.limit;
        if !self.any_running() {
            return None;
        }
        let left = limit.duration_since(now).as_secs().max(0);
        let mains_run = self.slots.iter().any(|slot| slot.is_running() && slot.role != Role::Sidecar);
        for index in 0..self.slots.len() {
            if self.slots[index].role != Role::Sidecar || !mains_run {
                self.end(index, now, left, None);
            }
            if let Some(ending) = &mut self.slots[index].ending {
                ending.kill_at = ending.kill_at.min(limit + SignedDuration::from_secs(AFTER_HOOK));
            }
        }
        let kill = self.kill_overdue(now);
        // side-cars that were not asked yet
        Some(kill.map_or(limit.max(now + RETRY), |at| soonest(Some(limit.max(now + RETRY)), at)))
    }

    /// Asks a running container to end within `grace` seconds, once: its hook, then the signal. `why` is told.
    pub(super) fn end(&mut self, index: usize, now: Timestamp, grace: i64, why: Option<String>) {
        let qmp = crate::kubevirt::qmp_socket(&self.pod, &self.dir.join("volumes"));
        let (events, pod, ip) = (self.kubelet.events.clone(), self.pod.clone(), self.record.ip);
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.is_running()) else { return };
        if slot.ending.is_some() {
            return;
        }
        let hook = slot.container.lifecycle.as_ref().and_then(|hooks| hooks.pre_stop.clone()).filter(|_| grace > 0);
        let extra = if hook.is_some() { AFTER_HOOK } else { 0 };
        slot.ending = Some(Ending { kill_at: now + SignedDuration::from_secs(grace + extra) });
        let Some(handle) = slot.handle.clone() else { return };
        let message = why.unwrap_or_else(|| format!("Stopping container {}", slot.container.name));
        let (container, running) = (slot.container.clone(), slot.running.clone());
        tokio::spawn(async move {
            events.publish(&pod, Kind::Normal, "Killing", &message).await;
            if let (Some(hook), Some(running)) = (hook, running) {
                let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                let outcome = tokio::time::timeout(limit, hooks::run(&hook, &container, ip, &running)).await;
                let outcome = outcome.unwrap_or_else(|_| Err(format!("not done within {grace} s")));
                if let Err(error) = outcome {
                    let message = format!("PreStopHook failed: {error}");
                    events.publish(&pod, Kind::Warning, "FailedPreStopHook", &message).await;
                }
            }
            match qmp {
                Some((name, socket)) if name == container.name => crate::kubevirt::qmp::power_down_or(socket, handle),
                _ => handle.terminate(),
            }
        });
    }

    /// Kills containers whose time is over; returns when the next one is due.
    pub(super) fn kill_overdue(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        for slot in self.slots.iter().filter(|slot| slot.is_running()) {
            let Some(ending) = slot.ending else { continue };
            let mut at = ending.kill_at;
            if at <= now {
                if let Some(handle) = &slot.handle {
                    handle.kill();
                }
                at = now + RETRY;
            }
            wake = Some(soonest(wake, at));
        }
        wake
    }

    fn terminate_all(&self) {
        let qmp = crate::kubevirt::qmp_socket(&self.pod, &self.dir.join("volumes"));
        for slot in &self.slots {
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

    /// The node stops, the pods do not end: their records go on saying Running, so that the
    /// next start of the node restarts what its restart policy wants restarted.
    pub(super) async fn node_stops(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        self.terminate_all();
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
        for slot in &mut self.slots {
            self.kubelet.running.remove(self.pod.metadata.uid.as_deref().unwrap_or_default(), &slot.container.name);
            slot.reset();
        }
        // letting go of a handle kills what is left
        self.slots.clear();
        volumes::release(&self.dir.join("volumes"));
    }
}
