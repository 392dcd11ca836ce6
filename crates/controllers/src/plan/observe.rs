//! What exists on the target, per VM: from the shared caches, indexed once per pass, never by a list call per VM.
use std::collections::HashMap;
use std::sync::Arc;

use forklift_api::conversion::ConversionType;
use forklift_api::worker::{ImportProgress, ImportResult, WorkerError};
use forklift_api::{Conversion, annotations, labels};
use forklift_core::build::importer_job::ROUND;
use forklift_core::plan::world::{
    ConversionFact, GuestFact, HookFact, ImportFact, JobState, Observed, PvcFact, SharedFact, VmFact,
};
use forklift_core::plan::{Needs, ObjectRef, PlanFacts, PlanVm, TargetFacts};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, PersistentVolumeClaim, Pod, Secret};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::reflector;
use kube::{Api, Resource, ResourceExt};

use super::facts::conversion_phase;
use super::target::is_unfinished;
use crate::caches::VirtualMachine;
use crate::context::Context;
use crate::worker;

/// Name of the container of importers.
const IMPORTER: &str = "importer";
/// Importers that are asked for their progress at a time.
const ASKED_AT_ONCE: usize = 16;

/// The children of a plan, by the id of their VM.
#[derive(Default)]
pub struct Children {
    of: HashMap<String, OfVm>,
    /// Virtual machines in the target namespace, whoever made them.
    machines: Vec<Arc<VirtualMachine>>,
    /// Claims in the target namespace with disks that VMs share.
    shared: Vec<SharedFact>,
    namespace: bool,
}

#[derive(Default)]
struct OfVm {
    pods: Vec<Arc<Pod>>,
    jobs: Vec<Arc<Job>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
    secrets: Vec<Arc<Secret>>,
    config_maps: Vec<Arc<ConfigMap>>,
    conversions: Vec<Arc<Conversion>>,
    machines: Vec<Arc<VirtualMachine>>,
}

impl Children {
    /// Indexes the caches for a plan.
    pub fn index(context: &Context, plan: &PlanFacts) -> Self {
        let mut of: HashMap<String, OfVm> = HashMap::new();
        let caches = &context.caches;
        macro_rules! sort {
            ($($field:ident <- $store:ident),+) => {$(
                for object in caches.$store.state() {
                    if object.labels().get(labels::PLAN) == Some(&plan.uid)
                        && let Some(vm) = object.labels().get(labels::VM_ID)
                    {
                        of.entry(vm.clone()).or_default().$field.push(object);
                    }
                }
            )+};
        }
        sort!(pods <- pods, jobs <- jobs, claims <- claims, secrets <- secrets, config_maps <- config_maps,
              conversions <- conversions, machines <- machines);
        let namespace =
            caches.namespaces.get(&reflector::ObjectRef::<Namespace>::new(&plan.target_namespace)).is_some();
        let in_target = |machine: &Arc<VirtualMachine>| machine.namespace().as_deref() == Some(&plan.target_namespace);
        let machines = caches.machines.state().into_iter().filter(in_target).collect();
        let shared = |claim: &Arc<PersistentVolumeClaim>| {
            let holds = claim.labels().get(labels::SHAREABLE).is_some_and(|value| value == "true")
                && claim.namespace().as_deref() == Some(&plan.target_namespace)
                && claim.metadata.deletion_timestamp.is_none();
            let label = |key: &str| claim.labels().get(key).cloned().unwrap_or_default();
            // a disk that is half copied is nothing to start a VM with
            let whole = holds && !is_unfinished(context, &label(labels::PLAN), &label(labels::VM_ID));
            whole.then(|| SharedFact {
                disk: annotation(claim.as_ref(), annotations::DISK_SOURCE),
                claim: claim.name_any(),
                plan_uid: label(labels::PLAN),
            })
        };
        let shared = caches.claims.state().iter().filter_map(shared).collect();
        Self { of, machines, shared, namespace }
    }
}

/// Gathers the facts on the target that a state needs.
pub async fn target(
    context: &Context,
    children: &Children,
    plan: &PlanFacts,
    vm: &PlanVm,
    target_name: &str,
    needs: Needs,
) -> TargetFacts {
    let none = OfVm::default();
    let of = children.of.get(&vm.id).unwrap_or(&none);
    let mut facts = TargetFacts { namespace: children.namespace, ..TargetFacts::default() };
    if needs.target || needs.import_progress {
        facts.pvcs = of.claims.iter().map(|claim| pvc(claim)).collect();
        facts.imports = imports(context, of, needs.import_progress).await;
        for import in facts.imports.iter_mut().filter(|import| import.waiting.is_some()) {
            let pending = |claim: &&&Arc<PersistentVolumeClaim>| {
                let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
                annotation(claim.as_ref(), annotations::DISK_SOURCE) == import.disk && phase != Some("Bound")
            };
            // "unschedulable" is what the pod says; why there is no volume is what the claim's events say
            if let Some(claim) = of.claims.iter().find(|claim| pending(&claim))
                && let Some(trouble) = last_warning(context, claim.as_ref()).await
            {
                import.waiting = Some(format!("no volume for claim {}: {trouble}", claim.name_any()));
            }
        }
    }
    if needs.target || needs.conversion_progress {
        let latest = |inspects: bool| {
            let all = of.conversions.iter().filter(|c| (c.spec.type_ == ConversionType::DeepInspection) == inspects);
            all.max_by_key(|conversion| conversion.labels().get(labels::MIGRATION) == Some(&plan.migration_uid))
                .map(|conversion| conversion_fact(conversion))
        };
        facts.conversion = latest(false);
        facts.inspection = latest(true);
    }
    if needs.guest {
        facts.guest = guest(context, &plan.target_namespace, target_name).await;
    }
    if needs.target {
        facts.shared = children.shared.clone();
        facts.hooks =
            of.jobs.iter().filter(|job| job.labels().contains_key(labels::STEP)).map(|job| hook(of, job)).collect();
        facts.taken_names = taken_names(children, plan, vm);
        facts.vm = children.machines.iter().find(|found| found.name_any() == target_name).map(|found| vm_fact(found));
    }
    if needs.labelled {
        facts.labelled = labelled(of);
    }
    facts
}

/// Returns how the target VM runs; `None` while it does not, and when nobody can tell: the next look asks again.
async fn guest(context: &Context, namespace: &str, name: &str) -> Option<GuestFact> {
    let api = dynamic(context, "kubevirt.io/v1", "VirtualMachineInstance", Some(namespace));
    let found = api.get_opt(name).await.inspect_err(|error| tracing::debug!(name, %error, "no look at the guest"));
    let found = found.ok().flatten()?;
    let status = &found.data["status"];
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    Some(GuestFact {
        uid: found.uid().unwrap_or_default(),
        running: status["phase"] == "Running",
        agent: conditions.any(|condition| condition["type"] == "AgentConnected" && condition["status"] == "True"),
    })
}

/// Names of VMs in the target namespace that are not this VM's.
fn taken_names(children: &Children, plan: &PlanFacts, vm: &PlanVm) -> Vec<String> {
    let ours = |machine: &VirtualMachine| {
        machine.labels().get(labels::PLAN) == Some(&plan.uid) && machine.labels().get(labels::VM_ID) == Some(&vm.id)
    };
    children.machines.iter().filter(|machine| !ours(machine)).map(|machine| machine.name_any()).collect()
}

fn vm_fact(machine: &VirtualMachine) -> VmFact {
    let status = machine.status.as_ref().map(|status| status.printable_status.clone()).unwrap_or_default();
    VmFact { seen: observed(machine), running: status == "Running", status }
}

/// Returns whose an object is.
pub fn observed<K: Resource<DynamicType = ()>>(object: &K) -> Observed {
    let meta = object.meta();
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default();
    Observed {
        object: ObjectRef {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        },
        plan_uid: label(labels::PLAN),
        migration_uid: label(labels::MIGRATION),
        vm_id: label(labels::VM_ID),
        deleting: meta.deletion_timestamp.is_some(),
        active: false,
    }
}

fn labelled(of: &OfVm) -> Vec<Observed> {
    let mut all = Vec::new();
    all.extend(of.jobs.iter().map(|job| Observed { active: !finished(job), ..observed(job.as_ref()) }));
    all.extend(of.conversions.iter().map(|conversion| {
        let over = conversion.status.as_ref().is_some_and(|status| status.completion_time.is_some());
        Observed { active: !over, ..observed(conversion.as_ref()) }
    }));
    all.extend(of.pods.iter().map(|pod| {
        let active = matches!(worker::phase(pod), "Pending" | "Running");
        Observed { active, ..observed(pod.as_ref()) }
    }));
    all.extend(of.claims.iter().map(|claim| observed(claim.as_ref())));
    all.extend(of.secrets.iter().map(|secret| observed(secret.as_ref())));
    all.extend(of.config_maps.iter().map(|map| observed(map.as_ref())));
    all.extend(of.machines.iter().map(|machine| observed(machine.as_ref())));
    all
}

fn annotation<K: Resource>(object: &K, key: &str) -> String {
    object.meta().annotations.as_ref().and_then(|all| all.get(key)).cloned().unwrap_or_default()
}

fn pvc(claim: &PersistentVolumeClaim) -> PvcFact {
    let status = claim.status.as_ref();
    let spec = claim.spec.as_ref();
    PvcFact {
        seen: observed(claim),
        disk: annotation(claim, annotations::DISK_SOURCE),
        phase: status.and_then(|status| status.phase.clone()).unwrap_or_else(|| "Pending".to_owned()),
        owners: claim.owner_references().iter().map(|owner| owner.uid.clone()).collect(),
        volume_mode: spec.and_then(|spec| spec.volume_mode.clone()).unwrap_or_else(|| "Filesystem".to_owned()),
        message: status.and_then(|status| {
            let conditions = status.conditions.iter().flatten();
            conditions.filter(|condition| condition.status == "False").find_map(|condition| condition.message.clone())
        }),
    }
}

/// Returns the newest warning about a claim.
async fn last_warning(context: &Context, claim: &PersistentVolumeClaim) -> Option<String> {
    let api: Api<Event> = Api::namespaced(context.client.clone(), &claim.namespace()?);
    let selector = format!("involvedObject.uid={},type=Warning", claim.uid()?);
    let mut events = api.list(&ListParams::default().fields(&selector)).await.ok()?.items;
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    events.pop()?.message
}

/// Returns whether a Job has ended, well or not.
pub fn finished(job: &Job) -> bool {
    matches!(job_state(job, &[]), JobState::Succeeded | JobState::Failed)
}

fn job_state(job: &Job, pods: &[&Arc<Pod>]) -> JobState {
    let status = job.status.as_ref();
    let holds = |type_: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if status.and_then(|status| status.succeeded).unwrap_or(0) > 0 || holds("Complete") {
        JobState::Succeeded
    } else if holds("Failed") {
        JobState::Failed
    } else if status.and_then(|status| status.failed).unwrap_or(0) > 0
        || pods.iter().any(|pod| worker::phase(pod) != "Pending")
    {
        JobState::Running
    } else {
        JobState::Pending
    }
}

async fn imports(context: &Context, of: &OfVm, with_progress: bool) -> Vec<ImportFact> {
    let looks: Vec<BoxFuture<'_, ImportFact>> = of
        .jobs
        .iter()
        .filter(|job| job.annotations().contains_key(annotations::DISK_SOURCE))
        .map(|job| import(context, of, job, with_progress).boxed())
        .collect();
    stream::iter(looks).buffered(ASKED_AT_ONCE).collect().await
}

async fn import(context: &Context, of: &OfVm, job: &Job, with_progress: bool) -> ImportFact {
    let mut pods: Vec<&Arc<Pod>> = of.pods.iter().filter(|pod| owned_by(pod.as_ref(), job)).collect();
    pods.sort_by_key(|pod| pod.creation_timestamp().map(|made| made.0));
    let state = job_state(job, &pods);
    let last = pods.last();
    let mut result = pods.iter().rev().find_map(|pod| import_result(pod));
    if result.is_none() && matches!(state, JobState::Succeeded | JobState::Failed) {
        // The Job's event may come before its pod's: an importer that succeeded is not run again for that.
        result = read_result(context, job).await;
    }
    let mut progress: Option<ImportProgress> = None;
    if with_progress && let Some(ip) = last.and_then(|pod| worker::running_ip(pod)) {
        progress = context.workers.import_progress(ip).await;
    }
    let restarts = pods
        .iter()
        .filter_map(|pod| worker::container(pod, IMPORTER))
        .map(|status| u32::try_from(status.restart_count).unwrap_or(0))
        .sum::<u32>()
        + u32::try_from(pods.len().saturating_sub(1)).unwrap_or(0);
    let waiting = last.and_then(|pod| worker::waiting(pod)).map(|(reason, message)| format!("{reason}: {message}"));
    ImportFact {
        seen: observed(job),
        disk: annotation(job, annotations::DISK_SOURCE),
        state,
        round: job.labels().get(ROUND).and_then(|round| round.parse().ok()).unwrap_or(0),
        progress,
        result,
        restarts,
        waiting,
    }
}

fn import_result(pod: &Pod) -> Option<ImportResult> {
    serde_json::from_str(worker::termination_message(pod, IMPORTER)?).ok()
}

/// Reads the result of a Job from its pods, past the cache.
async fn read_result(context: &Context, job: &Job) -> Option<ImportResult> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &job.namespace()?);
    let selector = format!("{}={}", labels::VM_ID, job.labels().get(labels::VM_ID)?);
    let mut pods = api.list(&ListParams::default().labels(&selector)).await.ok()?.items;
    pods.retain(|pod| owned_by(pod, job));
    pods.sort_by_key(|pod| pod.creation_timestamp().map(|made| made.0));
    pods.iter().rev().find_map(import_result)
}

fn owned_by(pod: &Pod, job: &Job) -> bool {
    pod.owner_references().iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

fn conversion_fact(conversion: &Conversion) -> ConversionFact {
    let status = conversion.status.as_ref();
    ConversionFact {
        seen: observed(conversion),
        phase: conversion_phase(status.and_then(|status| status.phase)),
        message: status.map(|status| status.message.clone()).filter(|message| !message.is_empty()),
        progress: status.and_then(|status| status.progress.clone()),
        result: status.and_then(|status| status.result.clone()),
        inspection: status.and_then(|status| status.inspection_result.clone()),
    }
}

fn hook(of: &OfVm, job: &Job) -> HookFact {
    let status = job.status.as_ref();
    let job_says = status.and_then(|status| {
        let conditions = status.conditions.iter().flatten();
        conditions.filter(|condition| condition.type_ == "Failed").find_map(|condition| condition.message.clone())
    });
    // the Job knows only how often its pods failed; our runner says why
    let pod_says = of.pods.iter().filter(|pod| owned_by(pod.as_ref(), job)).find_map(|pod| {
        let error: WorkerError = serde_json::from_str(worker::termination_message(pod, "hook")?).ok()?;
        let log = format!("kubectl logs -n {} {}", pod.namespace().unwrap_or_default(), pod.name_any());
        Some(format!("{} (its log: {log})", error.message))
    });
    let message = job_says.map(|job_says| pod_says.unwrap_or(job_says));
    HookFact {
        seen: observed(job),
        step: job.labels().get(labels::STEP).cloned().unwrap_or_default(),
        state: job_state(job, &[]),
        failed: status.and_then(|status| status.failed).and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        message,
    }
}

/// Returns the API of a kind that is only known by name.
pub fn dynamic(context: &Context, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    }
}
