//! VirtualMachineInstance: its pod, its phases, its status.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forklift_kubevirt_types::VirtualMachineInstance;
use forklift_kubevirt_types::vmi::phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::monitor::Guest;
use super::status;
use super::{Setting, Stores, hotplug, qemu, start, vm};
use crate::events::{Events, Kind};

/// Keeps an instance until its pod is gone.
pub const FINALIZER: &str = "foregroundDeleteVirtualMachine";
/// The reason of an instance whose claim does not exist.
pub const NO_CLAIM: &str = "FailedPvcNotFound";
/// The reason of an instance that cannot be run here.
pub const REFUSED: &str = "Unschedulable";

/// What was told about instances already: notes and refusals, by uid.
#[derive(Debug, Default)]
pub struct Told(HashMap<String, String>);

/// Where an instance is, from its pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The phase.
    pub phase: &'static str,
    /// Why, when it did not end well or does not start.
    pub reason: Option<String>,
    /// The text beside it.
    pub message: Option<String>,
}

/// Reads the phase of an instance off its pod.
pub fn seen(before: &str, pod: Option<&Pod>) -> Seen {
    let plain = |phase| Seen { phase, reason: None, message: None };
    let Some(pod) = pod else {
        return match before {
            phase::SUCCEEDED => plain(phase::SUCCEEDED),
            // a pod that was there and is gone has taken the guest along
            phase::SCHEDULED | phase::RUNNING | phase::FAILED => Seen {
                phase: phase::FAILED,
                reason: Some("PodTerminated".into()),
                message: Some("the virt-launcher pod is gone".into()),
            },
            _ => plain(phase::PENDING),
        };
    };
    let status = pod.status.clone().unwrap_or_default();
    let compute = status.container_statuses.iter().flatten().find(|container| container.name == qemu::COMPUTE);
    let running =
        compute.is_some_and(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()));
    match status.phase.as_deref() {
        Some("Succeeded") => plain(phase::SUCCEEDED),
        Some("Failed") => {
            let end = compute.and_then(|container| container.state.as_ref()?.terminated.as_ref());
            Seen {
                phase: phase::FAILED,
                reason: status.reason.clone().or_else(|| end.and_then(|end| end.reason.clone())),
                message: end.and_then(|end| end.message.clone()).or(status.message.clone()),
            }
        }
        Some("Running") if running => plain(phase::RUNNING),
        _ if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) => plain(phase::SCHEDULED),
        _ => plain(phase::SCHEDULING),
    }
}

/// What one look at an instance works with.
struct Look<'a> {
    setting: &'a Setting,
    events: &'a Events,
    stores: &'a Stores,
    vmi: &'a VirtualMachineInstance,
    instances: Api<VirtualMachineInstance>,
    pods: Api<Pod>,
    name: String,
    pod_name: String,
    pod: Option<Arc<Pod>>,
    now: Timestamp,
}

/// Brings an instance on; returns when to look again.
pub async fn reconcile(
    setting: &Setting,
    events: &Events,
    told: &mut Told,
    vmi: &VirtualMachineInstance,
    stores: &Stores,
) -> kube::Result<Option<Timestamp>> {
    let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
    let name = vmi.metadata.name.clone().unwrap_or_default();
    let pod_name = qemu::pod_name(&name, vmi.metadata.uid.as_deref().unwrap_or_default());
    let look = Look {
        setting,
        events,
        stores,
        vmi,
        instances: Api::namespaced(setting.client.clone(), &namespace),
        pods: Api::namespaced(setting.client.clone(), &namespace),
        pod: stores.pods.get(&ObjectRef::new(&pod_name).within(&namespace)),
        name,
        pod_name,
        now: Timestamp::now(),
    };
    look.reconcile(told).await
}

impl Look<'_> {
    async fn reconcile(&self, told: &mut Told) -> kube::Result<Option<Timestamp>> {
        let vmi = self.vmi;
        let soon = self.now.checked_add(SignedDuration::from_secs(1)).ok();
        let finalizers = vmi.metadata.finalizers.clone().unwrap_or_default();
        let protected = finalizers.iter().any(|name| name == FINALIZER);
        let before = vmi.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        if vmi.metadata.deletion_timestamp.is_some() {
            match &self.pod {
                Some(pod) if pod.metadata.deletion_timestamp.is_none() || self.is_hurried(pod) => {
                    // nothing but the kubelet may remove the pod: zero would
                    let seconds = vmi
                        .spec
                        .termination_grace_period_seconds
                        .map(|seconds| seconds.clamp(1, i64::from(u32::MAX)) as u32);
                    let params = DeleteParams { grace_period_seconds: seconds, ..DeleteParams::default() };
                    self.pods.delete(&self.pod_name, &params).await?;
                    if before == phase::RUNNING {
                        self.say(Kind::Normal, "ShuttingDown", "Signaled Graceful Shutdown").await;
                    }
                }
                Some(_) => {}
                None if protected => {
                    // the store may lag behind: nothing is let go while the server has the pod
                    if self.pods.get_opt(&self.pod_name).await?.is_some() {
                        return Ok(soon);
                    }
                    told.0.remove(vmi.metadata.uid.as_deref().unwrap_or_default());
                    let rest = finalizers.into_iter().filter(|name| name != FINALIZER).collect();
                    self.set_finalizers(rest).await?;
                    return Ok(None);
                }
                None => return Ok(None),
            }
            self.write_status(seen(&before, self.pod.as_deref()), &before, None, &BTreeMap::new()).await?;
            return Ok(None);
        }
        if !protected {
            return self.adopt(finalizers).await.map(|()| None);
        }
        let mut state = seen(&before, self.pod.as_deref());
        let (mut again, mut notes) = (None, None);
        if state.phase == phase::PENDING {
            match start::start(self.setting, vmi, &self.pods, &self.stores.pods.state(), &self.stores.instances.state())
                .await?
            {
                Ok(left_out) => {
                    let made = format!("Created virtual machine pod {}", self.pod_name);
                    self.say(Kind::Normal, "SuccessfulCreate", &made).await;
                    for note in &left_out {
                        self.say(Kind::Warning, "NotOffered", note).await;
                    }
                    notes = Some(left_out);
                    state.phase = phase::SCHEDULING;
                }
                Err(refusal) => {
                    let uid = vmi.metadata.uid.clone().unwrap_or_default();
                    if told.0.insert(uid, refusal.message.clone()).as_ref() != Some(&refusal.message) {
                        self.say(Kind::Warning, refusal.reason, &refusal.message).await;
                    }
                    state = Seen {
                        phase: phase::PENDING,
                        reason: Some(refusal.reason.into()),
                        message: Some(refusal.message),
                    };
                    again = soon;
                }
            }
        }
        let mut plugged = BTreeMap::new();
        if state.phase == phase::RUNNING {
            let outcome = hotplug::sync(self.setting, self.events, vmi, self.stores).await?;
            plugged = outcome.volumes;
            again = [again, soon.filter(|_| outcome.unfinished)].into_iter().flatten().min();
        }
        self.write_status(state, &before, notes.as_deref(), &plugged).await?;
        Ok(again)
    }

    /// Whether the guest has less time to shut down than its pod was given.
    fn is_hurried(&self, pod: &Pod) -> bool {
        let given = pod.metadata.deletion_grace_period_seconds;
        let wanted = self.vmi.spec.termination_grace_period_seconds.map(|seconds| seconds.max(1));
        given.zip(wanted).is_some_and(|(given, wanted)| wanted < given)
    }

    async fn say(&self, kind: Kind, reason: &str, message: &str) {
        self.events.publish_about(self.vmi.object_ref(&()), kind, reason, message).await;
    }

    /// Takes an instance on that no machine made: KubeVirt's defaults are filled in, once.
    async fn adopt(&self, finalizers: Vec<String>) -> kube::Result<()> {
        let list: Vec<String> = finalizers.into_iter().chain([FINALIZER.to_owned()]).collect();
        let metadata = json!({"finalizers": list, "resourceVersion": self.vmi.metadata.resource_version});
        let mut patch = json!({"metadata": metadata});
        let mut spec = self.vmi.spec.clone();
        vm::defaults(&mut spec);
        if spec != self.vmi.spec {
            patch["spec"] = json!(spec);
        }
        self.instances.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn set_finalizers(&self, list: Vec<String>) -> kube::Result<()> {
        let version = &self.vmi.metadata.resource_version;
        let patch = json!({"metadata": {"finalizers": list, "resourceVersion": version}});
        self.instances.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The claims that the instance names, as far as they exist.
    fn claims(&self) -> BTreeMap<String, Arc<PersistentVolumeClaim>> {
        let namespace = self.vmi.metadata.namespace.as_deref().unwrap_or_default();
        let find = |name: &String| self.stores.claims.get(&ObjectRef::new(name).within(namespace));
        qemu::claims(&self.vmi.spec).into_iter().filter_map(|name| Some((name.clone(), find(&name)?))).collect()
    }

    async fn write_status(
        &self,
        state: Seen,
        before: &str,
        notes: Option<&[String]>,
        plugged: &BTreeMap<String, Value>,
    ) -> kube::Result<()> {
        let vmi = self.vmi;
        let old = vmi.status.clone().unwrap_or_default();
        let (running, pod) = (state.phase == phase::RUNNING, self.pod.as_deref());
        let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
        let guest = match pod.filter(|_| running) {
            Some(pod) => self.setting.monitors.watch(uid, &self.setting.sockets(pod)),
            None => Guest::default(),
        };
        let claims = self.claims();
        let facts = status::Facts { vmi, seen: &state, pod, guest: &guest, claims: &claims, notes };
        let mut transitions = old.phase_transition_timestamps.iter().map(|entry| json!(entry)).collect::<Vec<Value>>();
        if old.phase.as_deref() != Some(state.phase) {
            transitions.push(json!({"phase": state.phase, "phaseTransitionTimestamp": Time(self.now)}));
        }
        let mut new = json!({
            "phase": state.phase, "reason": state.reason, "conditions": status::conditions(&facts, self.now),
            "phaseTransitionTimestamps": transitions,
        });
        if let Some(pod) = pod {
            new["qosClass"] = json!(pod.status.as_ref().and_then(|status| status.qos_class.clone()));
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                let node = &self.setting.node;
                new["nodeName"] = json!(node);
                let pod_uid = pod.metadata.uid.clone().unwrap_or_default();
                // when it has ended nothing of it is left
                let active = matches!(state.phase, phase::SCHEDULED | phase::RUNNING);
                new["activePods"] = json!({pod_uid: if active { json!(node) } else { Value::Null }});
            }
            new["volumeStatus"] = json!(status::volumes(vmi, pod, &claims, plugged));
            if running {
                let (sockets, cores, threads) = qemu::topology(&vmi.spec.domain);
                new["interfaces"] = json!(status::interfaces(vmi, pod, &guest));
                new["guestOSInfo"] = json!(guest.agent.as_ref().map(|agent| agent.os.clone()).unwrap_or_default());
                new["machine"] = json!({"type": machine_type(vmi)});
                new["currentCPUTopology"] = json!({"sockets": sockets, "cores": cores, "threads": threads});
                if let Some(memory) = vmi.spec.domain.memory.as_ref().and_then(|memory| memory.guest.clone()) {
                    new["memory"] = json!({"guestAtBoot": memory, "guestCurrent": memory, "guestRequested": memory});
                }
            }
        }
        if before != state.phase {
            self.tell(&state).await;
        }
        let written = serde_json::to_value(&old).map_err(kube::Error::SerdeError)?;
        if !covers(&written, &new) {
            let patch = json!({"metadata": {"uid": vmi.metadata.uid}, "status": new});
            self.instances.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    /// The events that KubeVirt's node agent writes.
    async fn tell(&self, state: &Seen) {
        match state.phase {
            phase::RUNNING => {
                self.say(Kind::Normal, "Created", "VirtualMachineInstance defined.").await;
                self.say(Kind::Normal, "Started", "VirtualMachineInstance started.").await;
            }
            phase::SUCCEEDED => self.say(Kind::Normal, "Stopped", "The VirtualMachineInstance was shut down.").await,
            phase::FAILED => self.say(Kind::Warning, "Stopped", "The VirtualMachineInstance crashed.").await,
            _ => {}
        }
    }
}

fn machine_type(vmi: &VirtualMachineInstance) -> String {
    let asked = vmi.spec.domain.machine.as_ref().and_then(|machine| machine.type_.clone());
    asked.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "q35".into())
}

/// Whether merging would change nothing: null stands for what is not there.
pub fn covers(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => new.iter().all(|(key, value)| match old.get(key) {
            Some(known) => covers(known, value),
            None => match value {
                Value::Object(_) => covers(&json!({}), value),
                Value::Array(list) => list.is_empty(),
                value => value.is_null(),
            },
        }),
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value, node: Option<&str>) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "virt-launcher-m-1", "namespace": "n"},
            "spec": {"containers": [], "nodeName": node},
            "status": status,
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn phases_follow_the_pod() {
        let compute = |state: Value| json!([{"name": "compute", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state}]);
        for (status, node, expected) in [
            (json!({"phase": "Pending"}), None, "Scheduling"),
            (json!({"phase": "Pending"}), Some("here"), "Scheduled"),
            (
                json!({"phase": "Running", "containerStatuses": compute(json!({"running": {}}))}),
                Some("here"),
                "Running",
            ),
            (json!({"phase": "Succeeded"}), Some("here"), "Succeeded"),
        ] {
            assert_eq!(seen("", Some(&pod(status, node))).phase, expected);
        }
        let failed = json!({"phase": "Failed", "containerStatuses": compute(json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no disk"}}))});
        assert_eq!(
            seen("Running", Some(&pod(failed, Some("here")))),
            Seen { phase: "Failed", reason: Some("Error".into()), message: Some("no disk".into()) }
        );
        assert_eq!(seen("", None).phase, "Pending");
        assert_eq!(seen("Running", None).phase, "Failed");
        assert_eq!(seen("Succeeded", None).phase, "Succeeded");
    }

    #[test]
    fn what_is_written_is_not_written_again() {
        let old = json!({"phase": "Running", "activePods": {"p": "n"}, "interfaces": [{"name": "a"}]});
        for (new, same) in [
            (json!({"phase": "Running", "reason": null}), true),
            (json!({"activePods": {"p": "n"}, "guestOSInfo": {}}), true),
            (json!({"activePods": {"p": null}}), false),
            (json!({"activePods": {"q": null}}), true),
            (json!({"interfaces": [{"name": "b"}]}), false),
        ] {
            assert_eq!(covers(&old, &new), same, "{new}");
        }
    }
}
