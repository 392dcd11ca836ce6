//! kill -9 of the node: its machines go with it, and come back by their run strategy.
//!
//! The node runs in a process of its own here, which is this program again: so there is no test harness.

mod common;

use std::path::Path;
use std::process::{Child, Command};

use common::{Stack, eventually, process_with};
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PostParams;
use node::Config;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const CHILD: &str = "NODE_TEST_KUBECONFIG";

#[tokio::main]
async fn main() {
    if let Ok(kubeconfig) = std::env::var(CHILD) {
        return run_node(Path::new(&kubeconfig)).await;
    }
    println!("\nrunning 1 test");
    machines_come_back_after_their_node_was_killed().await;
    println!(
        "test machines_come_back_after_their_node_was_killed ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n"
    );
}

async fn run_node(kubeconfig: &Path) {
    let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
    let parsed = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(parsed, &Default::default()).await.expect("a configuration");
    let client = kube::Client::try_from(config).expect("a client");
    let config = Config::new("test-node", kubeconfig.with_file_name("node"), common::TOKEN);
    node::run(client, config, CancellationToken::new()).await.expect("a node that runs");
}

fn start(kubeconfig: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program")).env(CHILD, kubeconfig).spawn().expect("a node")
}

fn phase(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

async fn machines_come_back_after_their_node_was_killed() {
    let mut stack = Stack::start_with(|config| config.kubevirt = false).await;
    stack.stop_node().await;
    let crds: Api<CustomResourceDefinition> = Api::all(stack.client.clone());
    for crd in forklift_kubevirt_types::crds() {
        crds.create(&PostParams::default(), &crd).await.expect("a CRD");
    }
    let kubeconfig = stack.dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, stack.kubeconfig()).expect("written");
    let mut child = start(&kubeconfig);
    for (name, strategy) in [("always", "Always"), ("once", "Once")] {
        let vm = json!({"metadata": {"name": name}, "spec": {"runStrategy": strategy, "template": {"spec": {
            "terminationGracePeriodSeconds": 1,
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d", "disk": {"bus": "virtio"}}]}},
            "volumes": [{"name": "d", "emptyDisk": {"capacity": "1Mi"}}]}}}});
        stack.create::<VirtualMachine>(vm).await;
    }
    stack.until("once", |vmi: &VirtualMachineInstance| phase(vmi) == "Running").await;
    let mut last = None;
    for round in 1..=3 {
        let before = last.clone();
        let vmi = stack
            .until("always", move |vmi: &VirtualMachineInstance| vmi.metadata.uid != before && phase(vmi) == "Running")
            .await;
        last = vmi.metadata.uid;
        eventually(&format!("round {round}: QEMU runs"), || process_with("guest=default_always")).await;
        child.kill().expect("kill -9");
        child.wait().expect("reaped");
        eventually("QEMU dies with the node", || !process_with("guest=default_always")).await;
        child = start(&kubeconfig);
    }
    // what was to run once is not run again
    let once = stack.until("once", |vmi: &VirtualMachineInstance| phase(vmi) == "Failed").await;
    assert!(once.metadata.deletion_timestamp.is_none());
    assert!(!process_with("guest=default_once"));
    child.kill().expect("kill -9");
    child.wait().expect("reaped");
    eventually("QEMU dies with the node", || !process_with("guest=default_always")).await;
    stack.stop().await;
}
