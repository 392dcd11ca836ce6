//! VirtualMachine: when an instance is to exist, and what the status says.

use forklift_kubevirt_types::kubevirt::{Condition, printable_status, run_strategy};
use forklift_kubevirt_types::vmi::phase;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::events::{Events, Kind};

/// Keeps a machine until its instance is gone.
const FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";
/// An instance that lived this long clears the back-off.
const STABLE_SECONDS: i64 = 600;

/// What a machine needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Add our finalizer.
    Protect,
    /// Remove our finalizer.
    Unprotect,
    /// Create the instance.
    Start,
    /// Delete the instance.
    Stop,
}

/// The answer about a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The one word for people.
    pub printable: &'static str,
    /// Failures in a row, and the uid of the instance that was counted last.
    pub failures: Option<(u32, String)>,
    /// When the next start may be.
    pub retry: Option<Timestamp>,
}

/// The run strategy of a machine; the older `running` gives Always or Halted.
pub fn strategy(vm: &VirtualMachine) -> &str {
    match (&vm.spec.run_strategy, vm.spec.running) {
        (Some(strategy), _) => strategy,
        (None, Some(true)) => run_strategy::ALWAYS,
        (None, _) => run_strategy::HALTED,
    }
}

/// Decides about a machine and the instance of its name.
pub fn decide(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>, now: Timestamp) -> Decision {
    let strategy = strategy(vm);
    let protected = vm.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
    let state = vmi.and_then(|vmi| vmi.status.as_ref()?.phase.as_deref()).unwrap_or_default();
    let (failed, succeeded) = (state == phase::FAILED, state == phase::SUCCEEDED);
    let (failures, retry) = failures(vm, vmi, now);
    let answer = |action, printable| Decision { action, printable, failures: failures.clone(), retry: None };
    if vm.metadata.deletion_timestamp.is_some() {
        let action = match vmi {
            Some(vmi) if vmi.metadata.deletion_timestamp.is_none() => Action::Stop,
            Some(_) => Action::None,
            None if protected => Action::Unprotect,
            None => Action::None,
        };
        return answer(action, printable_status::TERMINATING);
    }
    if !protected {
        return answer(Action::Protect, printable_status::STOPPED);
    }
    let Some(vmi) = vmi else {
        let wanted = matches!(strategy, run_strategy::ALWAYS | run_strategy::RERUN_ON_FAILURE | run_strategy::ONCE);
        return match retry {
            _ if !wanted => answer(Action::None, printable_status::STOPPED),
            Some(at) if at > now => {
                Decision { retry: Some(at), ..answer(Action::None, printable_status::CRASH_LOOP_BACK_OFF) }
            }
            _ => answer(Action::Start, printable_status::STARTING),
        };
    };
    if vmi.metadata.deletion_timestamp.is_some() {
        return answer(Action::None, printable_status::STOPPING);
    }
    let again = match strategy {
        run_strategy::ALWAYS => failed || succeeded,
        run_strategy::RERUN_ON_FAILURE => failed,
        _ => false,
    };
    if again {
        return answer(
            Action::Stop,
            if failed { printable_status::CRASH_LOOP_BACK_OFF } else { printable_status::STOPPING },
        );
    }
    if failed || succeeded {
        return answer(Action::None, printable_status::STOPPED);
    }
    if strategy == run_strategy::HALTED {
        return answer(Action::Stop, printable_status::STOPPING);
    }
    let reason = vmi.status.as_ref().and_then(|status| status.reason.as_deref()).unwrap_or_default();
    answer(
        Action::None,
        match (state, reason) {
            (phase::RUNNING, _) => printable_status::RUNNING,
            (_, super::vmi::NO_CLAIM) => printable_status::PVC_NOT_FOUND,
            (_, super::vmi::REFUSED) => printable_status::UNSCHEDULABLE,
            _ => printable_status::STARTING,
        },
    )
}

/// Failures in a row and when the next start may be.
fn failures(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> (Option<(u32, String)>, Option<Timestamp>) {
    let kept = vm.status.as_ref().and_then(|status| status.start_failure.as_ref());
    let text = |name: &str| kept.and_then(|kept| kept.get(name)?.as_str()).unwrap_or_default();
    let count = kept.and_then(|kept| kept.get("consecutiveFailCount")?.as_u64()).unwrap_or(0) as u32;
    let retry: Option<Timestamp> = text("retryAfterTimestamp").parse().ok();
    let last = text("lastFailedVMIUID").to_owned();
    let old = (count > 0).then_some((count, last.clone()));
    let Some(vmi) = vmi else { return (old, retry) };
    let Some(status) = &vmi.status else { return (old, retry) };
    let lived = vmi.metadata.creation_timestamp.as_ref().map_or(0, |time| now.duration_since(time.0).as_secs());
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    match status.phase.as_deref() {
        // an instance that went with the node is not the machine's failure
        Some(phase::FAILED) if status.reason.as_deref() == Some("NodeLost") => (None, None),
        Some(phase::FAILED) if uid != last && lived < STABLE_SECONDS => (Some((count + 1, uid)), None),
        Some(phase::RUNNING) if lived >= STABLE_SECONDS => (None, None),
        _ => (old, retry),
    }
}

/// Does what is decided and writes the status; returns when to look again.
pub async fn reconcile(
    client: &Client,
    events: &Events,
    vm: &VirtualMachine,
    instances: &Store<VirtualMachineInstance>,
    now: Timestamp,
) -> kube::Result<Option<Timestamp>> {
    let namespace = vm.metadata.namespace.clone().unwrap_or_default();
    let name = vm.metadata.name.clone().unwrap_or_default();
    let vmi = instances.get(&ObjectRef::new(&name).within(&namespace)).filter(|vmi| is_owned(vm, vmi));
    let decision = decide(vm, vmi.as_deref(), now);
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), &namespace);
    let all: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &namespace);
    let finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
    let set_finalizers = async |list: Vec<String>| {
        let patch = json!({"metadata": {"finalizers": list, "resourceVersion": vm.metadata.resource_version}});
        machines.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
    };
    // the count of failures is written before the instance that failed is removed
    if decision.action != Action::Unprotect {
        write_status(&machines, vm, vmi.as_deref(), &decision, now).await?;
    }
    match decision.action {
        Action::None => {}
        Action::Protect => {
            set_finalizers(finalizers.into_iter().chain([FINALIZER.to_owned()]).collect()).await?;
        }
        Action::Unprotect => {
            set_finalizers(finalizers.into_iter().filter(|name| name != FINALIZER).collect()).await?;
        }
        Action::Start => {
            let result = all.create(&PostParams::default(), &instance(vm)).await;
            match result {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    events.publish_about(about(vm), Kind::Warning, "FailedCreate", &error.to_string()).await;
                    return Err(error);
                }
                Ok(_) => {
                    let message =
                        format!("Started the virtual machine by creating the new virtual machine instance {name}");
                    events.publish_about(about(vm), Kind::Normal, "SuccessfulCreate", &message).await;
                }
            }
        }
        Action::Stop => {
            let uid = vmi.as_ref().and_then(|vmi| vmi.metadata.uid.clone());
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid, resource_version: None }),
                ..DeleteParams::default()
            };
            all.delete(&name, &params).await?;
            let message = format!("Stopped the virtual machine by deleting the virtual machine instance {name}");
            events.publish_about(about(vm), Kind::Normal, "SuccessfulDelete", &message).await;
        }
    }
    Ok(decision.retry)
}

fn is_owned(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let mut owners = vmi.metadata.owner_references.iter().flatten();
    owners.any(|owner| Some(&owner.uid) == vm.metadata.uid.as_ref())
}

fn about(vm: &VirtualMachine) -> k8s_openapi::api::core::v1::ObjectReference {
    use kube::Resource;
    vm.object_ref(&())
}

fn instance(vm: &VirtualMachine) -> VirtualMachineInstance {
    let template = vm.spec.template.metadata.clone().unwrap_or_default();
    let name = vm.metadata.name.clone().unwrap_or_default();
    let mut instance =
        VirtualMachineInstance::new(vm.metadata.namespace.as_deref(), &name, vm.spec.template.spec.clone());
    instance.metadata = ObjectMeta {
        labels: template.labels,
        annotations: template.annotations,
        owner_references: Some(vec![OwnerReference {
            api_version: "kubevirt.io/v1".into(),
            kind: "VirtualMachine".into(),
            name,
            uid: vm.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        finalizers: Some(vec![super::vmi::FINALIZER.into()]),
        ..instance.metadata
    };
    instance
}

async fn write_status(
    machines: &Api<VirtualMachine>,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    decision: &Decision,
    now: Timestamp,
) -> kube::Result<()> {
    let old = vm.status.clone().unwrap_or_default();
    let ready = vmi.is_some_and(|vmi| {
        let mut conditions = vmi.status.iter().flat_map(|status| &status.conditions);
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    let condition = super::vmi::condition(
        &old.conditions,
        "Ready",
        ready,
        (!ready).then(|| ("VMINotReady", format!("the machine is {}", decision.printable))),
        now,
    );
    let mut conditions: Vec<Condition> =
        old.conditions.iter().filter(|condition| condition.type_ != "Ready").cloned().collect();
    conditions.push(condition);
    let known = old.start_failure.as_ref().and_then(|kept| kept.get("lastFailedVMIUID")?.as_str());
    let failure = match &decision.failures {
        None => Value::Null,
        Some((_, uid)) if known == Some(uid) => old.start_failure.clone().unwrap_or_default(),
        Some((count, uid)) => {
            let wait = (10_i64 << (count - 1).min(10)).min(300);
            let at = now.checked_add(SignedDuration::from_secs(wait)).unwrap_or(now);
            json!({"consecutiveFailCount": count, "lastFailedVMIUID": uid, "retryAfterTimestamp": Time(at)})
        }
    };
    let new = json!({
        "created": vmi.is_some(), "ready": ready, "printableStatus": decision.printable, "runStrategy": strategy(vm),
        "conditions": conditions, "startFailure": failure,
        "observedGeneration": vm.metadata.generation, "desiredGeneration": vm.metadata.generation,
    });
    let mut before = serde_json::to_value(&old).map_err(kube::Error::SerdeError)?;
    if before.get("startFailure").is_none() {
        before["startFailure"] = Value::Null;
    }
    let same = new.as_object().into_iter().flatten().all(|(key, value)| {
        before.get(key).is_some_and(|old| old == value) || before.get(key).is_none() && value.is_null()
    });
    if !same {
        let name = vm.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"uid": vm.metadata.uid}, "status": new});
        machines.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(strategy: &str) -> VirtualMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n", "uid": "u", "finalizers": [FINALIZER]},
            "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {}}}},
        }))
        .expect("a machine")
    }

    fn vmi(phase: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n", "uid": "i", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"domain": {}}, "status": {"phase": phase},
        }))
        .expect("an instance")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn run_strategies_are_kept() {
        for (strategy, phase, action, printable) in [
            ("Always", "", Action::Start, "Starting"),
            ("Always", "Scheduling", Action::None, "Starting"),
            ("Always", "Running", Action::None, "Running"),
            ("Always", "Succeeded", Action::Stop, "Stopping"),
            ("Always", "Failed", Action::Stop, "CrashLoopBackOff"),
            ("RerunOnFailure", "", Action::Start, "Starting"),
            ("RerunOnFailure", "Succeeded", Action::None, "Stopped"),
            ("RerunOnFailure", "Failed", Action::Stop, "CrashLoopBackOff"),
            ("Once", "", Action::Start, "Starting"),
            ("Once", "Failed", Action::None, "Stopped"),
            ("Manual", "", Action::None, "Stopped"),
            ("Manual", "Running", Action::None, "Running"),
            ("Halted", "", Action::None, "Stopped"),
            ("Halted", "Running", Action::Stop, "Stopping"),
            ("Halted", "Succeeded", Action::None, "Stopped"),
        ] {
            let vmi = (!phase.is_empty()).then(|| vmi(phase));
            let decision = decide(&vm(strategy), vmi.as_ref(), at(5));
            assert_eq!((decision.action, decision.printable), (action, printable), "{strategy} {phase}");
        }
    }

    #[test]
    fn the_older_field_counts_too() {
        let mut machine = vm("");
        machine.spec.run_strategy = None;
        assert_eq!(strategy(&machine), "Halted");
        machine.spec.running = Some(true);
        assert_eq!(strategy(&machine), "Always");
    }

    #[test]
    fn failures_are_counted_once_and_waited_for() {
        let mut machine = vm("Always");
        let failed = vmi("Failed");
        assert_eq!(decide(&machine, Some(&failed), at(5)).failures, Some((1, "i".into())));
        machine.status = serde_json::from_value(json!({"startFailure": {
            "consecutiveFailCount": 1, "lastFailedVMIUID": "i", "retryAfterTimestamp": "1970-01-01T00:00:15Z"}}))
        .expect("a status");
        assert_eq!(decide(&machine, Some(&failed), at(6)).failures, Some((1, "i".into())));
        let waiting = decide(&machine, None, at(6));
        assert_eq!(
            (waiting.action, waiting.retry, waiting.printable),
            (Action::None, Some(at(15)), "CrashLoopBackOff")
        );
        assert_eq!(decide(&machine, None, at(15)).action, Action::Start);
        let mut lost = failed;
        lost.metadata.uid = Some("other".into());
        lost.status.as_mut().expect("a status").reason = Some("NodeLost".into());
        assert_eq!(decide(&machine, Some(&lost), at(6)).failures, None);
    }

    #[test]
    fn a_deleted_machine_takes_its_instance_along() {
        let mut machine = vm("Always");
        machine.metadata.deletion_timestamp = Some(Time(at(1)));
        assert_eq!(decide(&machine, Some(&vmi("Running")), at(5)).action, Action::Stop);
        assert_eq!(decide(&machine, None, at(5)).action, Action::Unprotect);
    }
}
