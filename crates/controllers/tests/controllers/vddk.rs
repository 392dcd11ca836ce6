//! The user's VDDK is checked, and a plan gets on without it.
use forklift_api::provider::setting;
use forklift_api::{Plan, Provider};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::{Cluster, TARGET, condition, has};

async fn set_image(cluster: &Cluster, image: &str) {
    let patch = Patch::Merge(json!({"spec": {"settings": {setting::VDDK_INIT_IMAGE: image}}}));
    cluster.api::<Provider>().patch("src", &PatchParams::default(), &patch).await.expect("is changed");
}

async fn checks(cluster: &Cluster) -> Vec<Job> {
    let api: Api<Job> = Api::namespaced(cluster.client.clone(), TARGET);
    api.list(&ListParams::default().labels("vddk")).await.map(|jobs| jobs.items).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_checked_once_and_a_bad_one_is_a_warning() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "web", &["a"]);
    cluster.plan(&["vm-1"]).await;
    assert!(checks(&cluster).await.is_empty(), "no image, no check, no condition");

    cluster.fate.sticks("");
    set_image(&cluster, "registry/vddk:8").await;
    cluster.raises::<Plan>("plan", "ValidatingVDDK", "Started").await;
    let waiting = cluster.until("plan", |plan: Option<&Plan>| !has(plan, "Ready")).await;
    assert!(has(Some(&waiting), "ValidatingVDDK"));
    let job = checks(&cluster).await.pop().expect("a Job");
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a pod");
    assert_eq!(pod.init_containers.as_ref().map(|all| all[0].image.as_deref()), Some(Some("registry/vddk:8")));

    // another image takes its place, and turns out to be none
    cluster.fate.repair("");
    cluster.fate.breaks("", "no libvixDiskLib.so");
    set_image(&cluster, "registry/other:1").await;
    let found = cluster.raises::<Plan>("plan", "VDDKInvalid", "NotValid").await;
    assert_eq!(found["category"], "Warn");
    let ready = cluster.until("plan", |plan: Option<&Plan>| has(plan, "Ready")).await;
    assert!(condition(Some(&ready), "ValidatingVDDK").is_none());
    let names: Vec<String> = checks(&cluster).await.iter().map(ResourceExt::name_any).collect();
    assert!(names.len() == 1 && names[0] != job.name_any(), "{names:?}");

    cluster.fate.repair("");
    set_image(&cluster, "registry/vddk:9").await;
    cluster.lacks::<Plan>("plan", "VDDKInvalid").await;
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Ready")).await;
}
