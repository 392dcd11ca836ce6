//! VirtualMachineInstance: its pod, its phase, its conditions.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use forklift_kubevirt_types::VirtualMachineInstance;
use forklift_kubevirt_types::kubevirt::Condition;
use forklift_kubevirt_types::vmi::phase;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::qemu::{self, Claim, Facts, FirmwareFiles};
use super::{Setting, interfaces};
use crate::events::{Events, Kind};
use crate::volumes::{claim_names, store};

/// Keeps an instance until its pod is gone.
pub const FINALIZER: &str = "foregroundDeleteVirtualMachine";
/// The reason of an instance whose claim does not exist.
pub const NO_CLAIM: &str = "FailedPvcNotFound";
/// The reason of an instance that cannot be run here.
pub const REFUSED: &str = "Unschedulable";
const DISK_IN_USE: &str = "DiskInUse";

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

/// Makes a condition; its time is kept while its status is the same.
pub fn condition(
    before: &[Condition],
    name: &str,
    holds: bool,
    why: Option<(&str, String)>,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = before
        .iter()
        .find(|condition| condition.type_ == name && condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    let (reason, message) = why.unzip();
    Condition {
        type_: name.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..Condition::default()
    }
}

/// Brings an instance on; returns when to look again.
pub async fn reconcile(
    setting: &Setting,
    events: &Events,
    told: &mut Told,
    vmi: &VirtualMachineInstance,
    pods: &Store<Pod>,
) -> kube::Result<Option<Timestamp>> {
    let now = Timestamp::now();
    let soon = now.checked_add(SignedDuration::from_secs(1)).ok();
    let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
    let name = vmi.metadata.name.clone().unwrap_or_default();
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let instances: Api<VirtualMachineInstance> = Api::namespaced(setting.client.clone(), &namespace);
    let all: Api<Pod> = Api::namespaced(setting.client.clone(), &namespace);
    let pod_name = qemu::pod_name(&name, &uid);
    let pod = pods.get(&ObjectRef::new(&pod_name).within(&namespace));
    let finalizers = vmi.metadata.finalizers.clone().unwrap_or_default();
    let protected = finalizers.iter().any(|name| name == FINALIZER);
    let before = vmi.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();

    if vmi.metadata.deletion_timestamp.is_some() {
        match &pod {
            Some(pod) if pod.metadata.deletion_timestamp.is_none() => {
                all.delete(&pod_name, &DeleteParams::default()).await?;
            }
            Some(_) => {}
            None if protected => {
                // the store may lag behind: nothing is let go while the server has the pod
                if all.get_opt(&pod_name).await?.is_some() {
                    return Ok(soon);
                }
                told.0.remove(&uid);
                let rest: Vec<&String> = finalizers.iter().filter(|name| *name != FINALIZER).collect();
                let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": vmi.metadata.resource_version}});
                instances.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                return Ok(None);
            }
            None => return Ok(None),
        }
        write_status(&instances, vmi, seen(&before, pod.as_deref()), pod.as_deref(), &setting.node, now).await?;
        return Ok(None);
    }
    if !protected {
        let list: Vec<&str> = finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
        let patch = json!({"metadata": {"finalizers": list, "resourceVersion": vmi.metadata.resource_version}});
        instances.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        return Ok(None);
    }
    let mut state = seen(&before, pod.as_deref());
    let mut again = None;
    if state.phase == phase::PENDING {
        match start(setting, vmi, &all, &pods.state()).await? {
            Ok(notes) => {
                events
                    .publish_about(
                        vmi.object_ref(&()),
                        Kind::Normal,
                        "SuccessfulCreate",
                        &format!("Created virtual machine pod {pod_name}"),
                    )
                    .await;
                for note in notes {
                    events.publish_about(vmi.object_ref(&()), Kind::Warning, "NotOffered", &note).await;
                }
                state.phase = phase::SCHEDULING;
            }
            Err((reason, message)) => {
                if told.0.insert(uid, message.clone()).as_ref() != Some(&message) {
                    events.publish_about(vmi.object_ref(&()), Kind::Warning, reason, &message).await;
                }
                state = Seen { phase: phase::PENDING, reason: Some(reason.into()), message: Some(message) };
                again = soon;
            }
        }
    }
    write_status(&instances, vmi, state, pod.as_deref(), &setting.node, now).await?;
    Ok(again)
}

/// Creates the pod, or says why not (yet).
async fn start(
    setting: &Setting,
    vmi: &VirtualMachineInstance,
    pods: &Api<Pod>,
    known: &[Arc<Pod>],
) -> kube::Result<Result<Vec<String>, (&'static str, String)>> {
    let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
    let wanted = qemu::claims(&vmi.spec);
    if let Some(message) = disk_in_use(vmi, &wanted, known) {
        return Ok(Err((DISK_IN_USE, message)));
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(setting.client.clone(), &namespace);
    let volumes: Api<PersistentVolume> = Api::all(setting.client.clone());
    let mut found = BTreeMap::new();
    for name in wanted {
        let Some(claim) = claims.get_opt(&name).await? else {
            return Ok(Err((NO_CLAIM, format!("persistentvolumeclaim \"{name}\" not found"))));
        };
        let spec = claim.spec.unwrap_or_default();
        let volume = match &spec.volume_name {
            Some(volume) => volumes.get_opt(volume).await?,
            None => None,
        };
        let device = volume
            .and_then(|volume| store::path(&volume))
            .and_then(|path| std::fs::metadata(path).ok())
            .is_some_and(|meta| meta.file_type().is_block_device());
        found.insert(name, Claim { block: spec.volume_mode.as_deref() == Some("Block"), device });
    }
    let kvm = setting.accelerator.kvm().await;
    let facts = Facts { kvm, claims: found, firmware: FirmwareFiles::find() };
    let launcher = match qemu::launcher(vmi, &facts) {
        Ok(launcher) => launcher,
        Err(message) => return Ok(Err((REFUSED, message))),
    };
    match pods.create(&PostParams::default(), &launcher.pod).await {
        Ok(_) => Ok(Ok(launcher.notes)),
        // made before a crash, or not seen yet
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Ok(Vec::new())),
        Err(error) => Err(error),
    }
}

/// Two machines must never write to one disk.
fn disk_in_use(vmi: &VirtualMachineInstance, wanted: &[String], pods: &[Arc<Pod>]) -> Option<String> {
    let uid = vmi.metadata.uid.as_ref();
    let others = pods.iter().filter(|pod| {
        let label = |name: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        label("kubevirt.io").is_some_and(|value| value == "virt-launcher")
            && label("kubevirt.io/created-by") != uid
            && pod.metadata.namespace == vmi.metadata.namespace
            && !matches!(phase, Some("Succeeded" | "Failed"))
    });
    for pod in others {
        if let Some(claim) = claim_names(pod).into_iter().find(|claim| wanted.contains(claim)) {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            return Some(format!(
                "the disk of persistentvolumeclaim {claim} is in use by pod {pod}; stop that machine first"
            ));
        }
    }
    None
}

async fn write_status(
    instances: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    state: Seen,
    pod: Option<&Pod>,
    node: &str,
    now: Timestamp,
) -> kube::Result<()> {
    let old = vmi.status.clone().unwrap_or_default();
    let running = state.phase == phase::RUNNING;
    let why = state.reason.clone().unwrap_or_else(|| "GuestNotRunning".into());
    let text = state.message.clone().unwrap_or_else(|| format!("the guest is not running: {}", state.phase));
    let mut conditions: Vec<Condition> = old
        .conditions
        .iter()
        .filter(|condition| !matches!(condition.type_.as_str(), "Ready" | "LiveMigratable"))
        .cloned()
        .collect();
    conditions.push(condition(&old.conditions, "Ready", running, (!running).then_some((why.as_str(), text)), now));
    let immovable = Some(("DisksNotLiveMigratable", "there is one node".to_owned()));
    conditions.push(condition(&old.conditions, "LiveMigratable", false, immovable, now));
    let mut transitions = old.phase_transition_timestamps.iter().map(|entry| json!(entry)).collect::<Vec<Value>>();
    if old.phase.as_deref() != Some(state.phase) {
        transitions.push(json!({"phase": state.phase, "phaseTransitionTimestamp": Time(now)}));
    }
    let mut new = json!({
        "phase": state.phase, "reason": state.reason, "conditions": conditions,
        "phaseTransitionTimestamps": transitions,
    });
    if let Some(pod) = pod {
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            new["nodeName"] = json!(node);
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            new["activePods"] = json!({uid: node});
        }
        if running {
            new["interfaces"] = json!(interfaces(vmi, pod));
        }
    }
    let before = serde_json::to_value(&old).map_err(kube::Error::SerdeError)?;
    let same = new.as_object().into_iter().flatten().all(|(key, value)| match before.get(key) {
        Some(old) => old == value,
        None => value.is_null(),
    });
    if !same {
        let name = vmi.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"uid": vmi.metadata.uid}, "status": new});
        instances.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value, node: Option<&str>) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "virt-launcher-m-1", "namespace": "n",
                         "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "other"}},
            "spec": {"containers": [], "nodeName": node,
                     "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}]},
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
    fn a_disk_belongs_to_one_running_machine() {
        let mut vmi = VirtualMachineInstance::default();
        vmi.metadata.namespace = Some("n".into());
        vmi.metadata.uid = Some("mine".into());
        let check =
            |phase: &str, wanted: &str| disk_in_use(&vmi, &[wanted.to_owned()], &[pod(json!({"phase": phase}), None)]);
        assert!(check("Running", "disk").is_some_and(|message| message.contains("virt-launcher-m-1")));
        assert_eq!(check("Failed", "disk"), None);
        assert_eq!(check("Running", "another"), None);
    }
}
