//! kill -9 of the node: its processes go with it, and come back with it.
//!
//! The node runs in a process of its own here, which is this program again: so there is no
//! test harness.

mod common;

use std::path::Path;
use std::process::{Child, Command};

use common::{IMAGE, Stack, eventually, process_with};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use node::Config;
use node::images::ImageTable;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const CHILD: &str = "NODE_TEST_KUBECONFIG";

#[tokio::main]
async fn main() {
    if let Ok(kubeconfig) = std::env::var(CHILD) {
        return run_node(Path::new(&kubeconfig)).await;
    }
    println!("\nrunning 1 test");
    killed_nodes_leave_nothing_and_go_on().await;
    println!("test killed_nodes_leave_nothing_and_go_on ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n");
}

async fn run_node(kubeconfig: &Path) {
    let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
    let parsed = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(parsed, &Default::default()).await.expect("a configuration");
    let client = kube::Client::try_from(config).expect("a client");
    let mut config = Config::new("test-node", kubeconfig.with_file_name("node"), common::TOKEN);
    config.images = ImageTable::default().with(IMAGE, ["/bin/sh", "-c"]);
    config.kubevirt = false;
    node::run(client, config, CancellationToken::new()).await.expect("a node that runs");
}

fn start(kubeconfig: &Path) -> Child {
    let program = std::env::current_exe().expect("this program");
    Command::new(program).env(CHILD, kubeconfig).spawn().expect("a node")
}

async fn killed_nodes_leave_nothing_and_go_on() {
    let mut stack = Stack::start_with(|config| config.kubevirt = false).await;
    stack.stop_node().await;
    let kubeconfig = stack.dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, stack.kubeconfig()).expect("written");
    let mut child = start(&kubeconfig);

    // a grandchild in a session of its own dies with its PID namespace; without one it would not
    let (script, words): (_, &[&str]) = if common::namespaces().await {
        ("trap '' TERM HUP; setsid sleep 765431 & exec sleep 765432", &["765431", "765432", "765433"])
    } else {
        ("trap '' TERM HUP; exec sleep 765432", &["765432", "765433"])
    };
    stack.create::<Pod>(Stack::shell("always", script, json!({"restartPolicy": "Always"}))).await;
    let job = json!({
        "metadata": {"name": "copy"},
        "spec": {"backoffLimit": 1, "template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "main", "image": IMAGE,
            "args": ["echo run >> /v/runs; test $(wc -l < /v/runs) -ge 4 && exit 0; exec sleep 765433"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [{"name": "v", "emptyDir": {}}]}}},
    });
    stack.create::<Job>(job).await;
    for round in 1..=3 {
        for word in words {
            eventually(&format!("round {round}: {word} runs"), || process_with(&format!("sleep\u{0}{word}"))).await;
        }
        let seen = stack.until("always", move |pod: &Pod| {
            let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
            status.is_some_and(|status| status.ready && status.restart_count == round - 1)
        });
        seen.await;
        child.kill().expect("kill -9");
        child.wait().expect("reaped");
        eventually("all processes die with the node", || !process_with("76543")).await;
        child = start(&kubeconfig);
    }
    // three times the node was at fault, so one allowed failure is still left
    let job = stack
        .until("copy", |job: &Job| {
            job.status.as_ref().is_some_and(|status| status.conditions.as_ref().is_some_and(|list| !list.is_empty()))
        })
        .await;
    let status = job.status.expect("a status");
    assert_eq!(status.conditions.expect("conditions")[0].type_, "Complete");
    let pods = stack.api::<Pod>().list(&ListParams::default().labels("job-name=copy")).await.expect("pods");
    assert_eq!(pods.items.len(), 1, "no second pod was made");
    child.kill().expect("kill -9");
    child.wait().expect("reaped");
    eventually("all processes die with the node", || !process_with("76543")).await;
    stack.stop().await;
}
