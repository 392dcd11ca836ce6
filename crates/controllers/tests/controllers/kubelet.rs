//! A node that runs nothing: it binds claims, and lets pods and Jobs end as the test says.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use forklift_api::annotations::DISK_SOURCE;
use forklift_api::worker::{ConversionResult, ImportResult, WorkerError};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

/// How disks go.
#[derive(Clone, Default)]
pub struct Fate {
    broken: Arc<Mutex<BTreeMap<String, String>>>,
    stuck: Arc<Mutex<BTreeSet<String>>>,
    copied: Arc<Mutex<Vec<String>>>,
    system: Arc<Mutex<Option<String>>>,
}

impl Fate {
    /// The disk's importer fails for good with this message.
    pub fn breaks(&self, disk: &str, message: &str) {
        self.broken.lock().expect("not poisoned").insert(disk.into(), message.into());
    }

    /// The disk can be copied again.
    pub fn repair(&self, disk: &str) {
        self.broken.lock().expect("not poisoned").remove(disk);
        self.stuck.lock().expect("not poisoned").remove(disk);
    }

    /// The disk's importer runs and never ends.
    pub fn sticks(&self, disk: &str) {
        self.stuck.lock().expect("not poisoned").insert(disk.into());
    }

    /// Conversions find a guest with this osinfo id.
    pub fn finds(&self, osinfo: &str) {
        *self.system.lock().expect("not poisoned") = Some(osinfo.into());
    }

    /// Returns the disks whose importers were run, in their order.
    pub fn copied(&self) -> Vec<String> {
        self.copied.lock().expect("not poisoned").clone()
    }

    fn of(&self, disk: &str) -> Option<ImportResult> {
        if self.stuck.lock().expect("not poisoned").contains(disk) {
            return None;
        }
        let broken = self.broken.lock().expect("not poisoned").get(disk).cloned();
        let error = broken.map(|message| WorkerError {
            code: "SourceUnreadable".into(),
            message,
            hint: Some("export the appliance again".into()),
            retryable: false,
        });
        Some(ImportResult {
            bytes_total: 1 << 20,
            bytes_written: 1 << 20,
            verified: error.is_none(),
            error,
            ..ImportResult::default()
        })
    }
}

/// Starts the node.
pub fn start(client: Client, fate: Fate) {
    tokio::spawn(each(client.clone(), bind));
    let of = fate.clone();
    tokio::spawn(each(client.clone(), move |client, pod: Pod| end_pod(client, pod, of.clone())));
    tokio::spawn(each(client, move |client, job: Job| run_job(client, job, fate.clone())));
}

async fn each<K, F, Fut>(client: Client, act: F)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    F: Fn(Client, K) -> Fut,
    Fut: Future<Output = Result<(), kube::Error>>,
{
    let changes = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).applied_objects();
    changes
        .for_each_concurrent(32, |change| {
            let acted = change.ok().map(|object| act(client.clone(), object));
            async move {
                // Objects go away under the node's hands: the next event tells.
                if let Some(acted) = acted
                    && let Err(error) = acted.await
                {
                    eprintln!("node: {error}");
                }
            }
        })
        .await;
}

async fn status<K>(api: &Api<K>, name: &str, status: Value) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.map(drop)
}

async fn bind(client: Client, claim: PersistentVolumeClaim) -> Result<(), kube::Error> {
    if claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound")) {
        return Ok(());
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client, &claim.namespace().unwrap_or_default());
    status(&api, &claim.name_any(), json!({"phase": "Bound"})).await
}

/// Lets deleted pods go, and conversions succeed.
async fn end_pod(client: Client, pod: Pod, fate: Fate) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        return api.delete(&pod.name_any(), &at_once).await.map(drop);
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let converts = pod.labels().get("forklift.app").is_some_and(|app| app == "virt-v2v");
    if converts && phase != Some("Succeeded") {
        let system = fate.system.lock().expect("not poisoned").clone();
        let inspection = system.map(|osinfo| json!({"osinfo": osinfo, "name": "linux"}));
        let result = ConversionResult { firmware: Some("bios".into()), inspection, ..ConversionResult::default() };
        status(&api, &pod.name_any(), ended("virt-v2v", 0, &result)).await?;
    }
    Ok(())
}

fn ended(container: &str, code: i32, result: &impl serde::Serialize) -> Value {
    let message = serde_json::to_string(result).expect("results are JSON");
    json!({
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [{
            "name": container, "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": code, "reason": "Completed", "message": message}},
        }],
    })
}

async fn run_job(client: Client, job: Job, fate: Fate) -> Result<(), kube::Error> {
    let namespace = job.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let jobs: Api<Job> = Api::namespaced(client, &namespace);
    if job.metadata.deletion_timestamp.is_some()
        || job.status.as_ref().is_some_and(|status| status.active == Some(1) || status.conditions.is_some())
    {
        return Ok(());
    }
    let disk = job.annotations().get(DISK_SOURCE).cloned().unwrap_or_default();
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let name = format!("{}-x", job.name_any());
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.name = Some(name.clone());
    pod.metadata.owner_references = job.controller_owner_ref(&()).map(|owner| vec![owner]);
    match pods.create(&PostParams::default(), &pod).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        Err(error) => return Err(error),
    }
    fate.copied.lock().expect("not poisoned").push(disk.clone());
    let Some(result) = fate.of(&disk) else {
        status(&pods, &name, json!({"phase": "Running"})).await?;
        return status(&jobs, &job.name_any(), json!({"active": 1})).await;
    };
    let failed = result.error.is_some();
    status(&pods, &name, ended("importer", if failed { 3 } else { 0 }, &result)).await?;
    let end = if failed { "Failed" } else { "Complete" };
    let now = jiff_now();
    let conditions = json!([{"type": end, "status": "True", "lastProbeTime": now, "lastTransitionTime": now}]);
    let counts = if failed {
        json!({"failed": 1, "conditions": conditions})
    } else {
        json!({"succeeded": 1, "conditions": conditions})
    };
    status(&jobs, &job.name_any(), counts).await
}

fn jiff_now() -> String {
    k8s_openapi::jiff::Timestamp::now().to_string()
}
