//! VirtualMachine: when an instance is to exist, and what the status says.
//!
//! [`decide`] says what comes next, [`reconcile`] does it. The status is written before the step that it
//! tells of, so that a crash in between is followed by the same step.

mod decide;
mod make;
mod status;

use forklift_kubevirt_types::kubevirt::StateChangeRequest;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource};
use serde_json::json;

pub use decide::{Action, Decision, decide, strategy};
pub use make::{defaults, fingerprint};

use super::Stores;
use super::instancetype;
use super::qemu::Refusal;
use crate::events::{Events, Kind};
use crate::volumes::claim_phase;

/// Keeps a machine until its instance is gone.
const FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// What is known of a machine besides itself and its instance.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// A claim of it waits for its volume.
    pub unbound: bool,
    /// It cannot be made as it is written.
    pub failure: Option<Refusal>,
}

/// Does what is decided and writes the status; returns when to look again.
pub async fn reconcile(
    client: &Client,
    events: &Events,
    vm: &VirtualMachine,
    stores: &Stores,
    now: Timestamp,
) -> kube::Result<Option<Timestamp>> {
    let namespace = vm.metadata.namespace.clone().unwrap_or_default();
    let name = vm.metadata.name.clone().unwrap_or_default();
    let vmi = stores.instances.get(&ObjectRef::new(&name).within(&namespace)).filter(|vmi| is_owned(vm, vmi));
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), &namespace);
    let all: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &namespace);
    let finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
    let set_finalizers = async |list: Vec<String>| {
        let patch = json!({"metadata": {"finalizers": list, "resourceVersion": vm.metadata.resource_version}});
        machines.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
    };
    let mut world = World { unbound: unbound(vm, stores), failure: None };
    let mut decision = decide(vm, vmi.as_deref(), &world, now);
    let (mut expanded, mut references) = (None, instancetype::References::default());
    if matches!(decision.action, Action::Start { .. }) {
        let outcome = match make::data_volumes(client, vm).await? {
            Ok(()) => instancetype::expand(client, vm).await?,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok((spec, found)) => {
                expanded = Some(spec);
                references = found;
            }
            Err(refusal) => {
                let known = vm.status.iter().flat_map(|status| &status.conditions);
                let mut known = known.filter(|condition| condition.type_ == "Failure");
                if known.next().and_then(|condition| condition.message.as_ref()) != Some(&refusal.message) {
                    events.publish_about(about(vm), Kind::Warning, refusal.reason, &refusal.message).await;
                }
                world.failure = Some(refusal);
                decision = decide(vm, vmi.as_deref(), &world, now);
            }
        }
    }
    if decision.action != Action::Unprotect {
        let shown =
            status::Shown { vm, vmi: vmi.as_deref(), decision: &decision, world: &world, references: &references };
        shown.write(&machines, now).await?;
    }
    match &decision.action {
        Action::None => {}
        Action::Protect => {
            set_finalizers(finalizers.into_iter().chain([FINALIZER.to_owned()]).collect()).await?;
        }
        Action::Unprotect => {
            set_finalizers(finalizers.into_iter().filter(|name| name != FINALIZER).collect()).await?;
        }
        Action::RunAlways => {
            let patch = json!({"metadata": {"resourceVersion": vm.metadata.resource_version}, "spec": {"running": null, "runStrategy": "Always"}});
            machines.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Action::Start { paused } => {
            let Some(spec) = expanded else { return Ok(decision.retry) };
            match all.create(&PostParams::default(), &make::instance(vm, spec, *paused)).await {
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
    // what could not be made is tried again: nothing tells when what it needs is there
    let later = world.failure.and_then(|_| now.checked_add(jiff::SignedDuration::from_secs(2)).ok());
    Ok([decision.retry, later].into_iter().flatten().min())
}

fn is_owned(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let mut owners = vmi.metadata.owner_references.iter().flatten();
    owners.any(|owner| Some(&owner.uid) == vm.metadata.uid.as_ref())
}

fn about(vm: &VirtualMachine) -> ObjectReference {
    vm.object_ref(&())
}

/// Whether a claim that exists waits for its volume.
fn unbound(vm: &VirtualMachine, stores: &Stores) -> bool {
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    let mut claims = super::qemu::claims(&vm.spec.template.spec).into_iter();
    claims.any(|name| {
        let claim = stores.claims.get(&ObjectRef::new(&name).within(namespace));
        claim.is_some_and(|claim| claim_phase(&claim) != "Bound")
    })
}

/// A request to start.
pub fn start_request(paused: bool) -> StateChangeRequest {
    let data = if paused { [("paused".to_owned(), "true".to_owned())].into() } else { Default::default() };
    StateChangeRequest { action: "Start".into(), data, ..StateChangeRequest::default() }
}

/// A request to stop an instance.
pub fn stop_request(uid: &str) -> StateChangeRequest {
    StateChangeRequest { action: "Stop".into(), uid: Some(uid.to_owned()), ..StateChangeRequest::default() }
}
