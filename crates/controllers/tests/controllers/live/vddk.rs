//! The user's VDDK: an image that is looked at, that is none, that does not come.
use forklift_api::{Plan, Provider};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Live, named};
use crate::cluster::TARGET;

/// Returns the name of the check's pod, once the node has taken it.
async fn pod(pods: &Api<Pod>) -> Option<String> {
    let list = pods.list(&ListParams::default()).await.ok()?;
    let taken = |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.phase.is_some());
    list.items.iter().find(taken).map(ResourceExt::name_any)
}

/// Lets the pod of the check wait for its image.
async fn waits(live: &Live, reason: &str) {
    let pods: Api<Pod> = Api::namespaced(live.cluster.client.clone(), TARGET);
    live.cluster.eventually("the pod of the check", || async { pod(&pods).await.is_some() }).await;
    let name = pod(&pods).await.expect("it is there");
    let status = json!({"status": {"phase": "Pending", "initContainerStatuses": [{"name": "vddk", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "the registry says so"}}}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.expect("is written");
}

async fn set_image(live: &Live, image: &str) {
    live.change::<Provider>("src", json!({"settings": {"vddkInitImage": image}})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_looked_at() {
    let Some(mut live) = Live::ready(named(&["web"])).await else { return };
    live.map(&["web"]).await;
    live.plan("plan", &["web"], |_| {}).await;
    live.accepts("plan", "ValidatingVDDK").await;
    live.cluster.fate.sticks("");
    set_image(&live, "registry/vddk:8").await;
    live.raises::<Plan>("plan", "ValidatingVDDK", "Started").await;
    waits(&live, "ContainerCreating").await;
    live.raises::<Plan>("plan", "VDDKInitImageNotReady", "ContainerCreating").await;
    waits(&live, "ErrImagePull").await;

    // a second is long enough for those who cannot wait
    live.cluster.stop_controllers().await;
    live.cluster.run_controllers_with(&[("VDDK_JOB_ACTIVE_DEADLINE", "1")]);
    live.raises::<Plan>("plan", "VDDKInitImageUnavailable", "ErrImagePull").await;
    live.accepts("plan", "ValidatingVDDK").await;

    live.cluster.fate.repair("");
    live.cluster.fate.breaks("", "no libvixDiskLib.so");
    set_image(&live, "registry/other:1").await;
    live.raises::<Plan>("plan", "VDDKInvalid", "NotValid").await;
    live.accepts("plan", "VDDKInitImageUnavailable").await;
    live.cluster.fate.repair("");
    set_image(&live, "registry/vddk:9").await;
    live.accepts("plan", "VDDKInvalid").await;
}
