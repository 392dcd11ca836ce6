//! Virtual machines in QEMU, seen through the API.

#[path = "../common/mod.rs"]
mod common;

mod basics;
mod firmware;
mod guests;
mod hotplug;
mod network;
mod subresources;
mod types;
mod volumes;

use std::path::PathBuf;

use common::Stack;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

/// Starts an API server with KubeVirt's kinds, and a node.
pub async fn stack() -> Stack {
    stack_with(|_| {}).await
}

/// Starts with images of the test's own.
pub async fn stack_with(change: impl FnOnce(&mut node::Config)) -> Stack {
    let stack = Stack::start_with(|config| {
        config.kubevirt = true;
        change(config);
    })
    .await;
    let crds: Api<CustomResourceDefinition> = Api::all(stack.client.clone());
    for crd in forklift_kubevirt_types::crds() {
        crds.create(&PostParams::default(), &crd).await.expect("a CRD");
    }
    stack
}

/// Makes a claim; returns where its data is.
pub async fn claim(stack: &Stack, name: &str, mode: &str, size: &str) -> PathBuf {
    stack
        .create::<PersistentVolumeClaim>(
            json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": mode,
        "resources": {"requests": {"storage": size}}}}),
        )
        .await;
    let claim = stack
        .until(name, |claim: &PersistentVolumeClaim| {
            claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
        })
        .await;
    let volume = claim.spec.and_then(|spec| spec.volume_name).expect("a volume");
    let dir = stack.data().join("volumes").join(volume);
    std::fs::create_dir_all(&dir).expect("a directory");
    dir.join("disk.img")
}

/// Makes a claim and puts a boot sector on its disk.
pub async fn disk(stack: &Stack, name: &str, mode: &str, sector: Vec<u8>) {
    let path = claim(stack, name, mode, "1Mi").await;
    let mut image = sector;
    image.resize(1 << 20, 0);
    std::fs::write(path, image).expect("written");
}

/// A machine of one disk and one interface.
pub fn machine(name: &str, claim: &str, bus: &str, strategy: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {
            "terminationGracePeriodSeconds": 1,
            "domain": {"memory": {"guest": "64Mi"}, "devices": {
                "disks": [{"name": "root", "disk": {"bus": bus}}],
                "interfaces": [{"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:01"}]}},
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": claim}}]}}},
    })
}

/// The phase of an instance.
pub fn phase(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Status, reason and message of a condition of an instance.
pub fn condition(vmi: &VirtualMachineInstance, name: &str) -> Option<(String, String, String)> {
    let found = vmi.status.iter().flat_map(|status| &status.conditions).find(|one| one.type_ == name)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

/// The word for how a machine is.
pub fn printable(vm: &VirtualMachine) -> &str {
    vm.status.as_ref().and_then(|status| status.printable_status.as_deref()).unwrap_or_default()
}

/// The name of a machine's pod.
pub async fn launcher(stack: &Stack, machine: &str) -> String {
    let params = ListParams::default().labels(&format!("kubevirt.io=virt-launcher,vm.kubevirt.io/name={machine}"));
    let pods = stack.api::<Pod>().list(&params).await.expect("pods");
    assert_eq!(pods.items.len(), 1, "one pod");
    pods.items[0].metadata.name.clone().expect("a name")
}

/// Follows the console until it has said a word; returns all that it said.
pub async fn console(stack: &Stack, machine: &str, word: &str) -> String {
    use futures::AsyncBufReadExt;
    let pod = launcher(stack, machine).await;
    let params =
        kube::api::LogParams { container: Some("guest-console-log".into()), follow: true, ..Default::default() };
    let said = tokio::time::timeout(std::time::Duration::from_secs(180), async {
        let mut log = stack.api::<Pod>().log_stream(&pod, &params).await.expect("a log");
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(word) {
            let part = log.fill_buf().await.expect("readable").to_vec();
            assert!(!part.is_empty(), "the console ended with {:?}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&part);
            log.consume_unpin(part.len());
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    said.await.expect("the guest's word in time")
}
