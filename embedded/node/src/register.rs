//! The Node object and the default StorageClass.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kubevirt::Accelerator;
use crate::volumes::{bind, store};

/// The name of the default class.
pub const STANDARD: &str = "standard";

/// What this machine has.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// CPUs.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Machine {
    /// Looks at the machine.
    pub fn look() -> Self {
        let info = rustix::system::sysinfo();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory: (info.totalram as u64).saturating_mul(u64::from(info.mem_unit)),
        }
    }
}

/// The labels of the node.
pub fn labels(name: &str) -> BTreeMap<String, String> {
    [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
        ("kubevirt.io/schedulable", "true"),
        ("node-role.kubernetes.io/control-plane", ""),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Registers the node, says once whether KVM can be used, and reports not ready at the end.
pub async fn keep(
    client: Client,
    name: String,
    address: SocketAddr,
    machine: Machine,
    accelerator: Option<Accelerator>,
    shutdown: CancellationToken,
) {
    let mut kvm = false;
    loop {
        match register(&client, &name, address, machine, kvm, true).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, "node not registered yet"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
    if let Some(accelerator) = accelerator {
        tokio::select! {
            () = shutdown.cancelled() => {}
            usable = accelerator.kvm() => kvm = usable,
        }
        if kvm && let Err(error) = register(&client, &name, address, machine, kvm, true).await {
            tracing::warn!(%error, "node status not written");
        }
    }
    shutdown.cancelled().await;
    // the API server may be stopping as well
    let last = register(&client, &name, address, machine, kvm, false);
    let _ = tokio::time::timeout(Duration::from_secs(1), last).await;
}

async fn register(
    client: &Client,
    name: &str,
    address: SocketAddr,
    machine: Machine,
    kvm: bool,
    ready: bool,
) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let object =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels(name)}, "spec": {}});
    let params = PatchParams::default();
    if ready {
        let node: Node = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        match nodes.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                nodes.patch(name, &params, &Patch::Merge(json!({"metadata": {"labels": labels(name)}}))).await?;
            }
            other => {
                other?;
            }
        }
        let classes: Api<StorageClass> = Api::all(client.clone());
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": {"name": STANDARD, "annotations": {bind::DEFAULT_CLASS: "true"}},
            "provisioner": store::PROVISIONER, "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate", "allowVolumeExpansion": true,
        }))
        .map_err(kube::Error::SerdeError)?;
        match classes.create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => {
                other?;
            }
        }
    }
    nodes.patch_status(name, &params, &Patch::Merge(status(name, address, machine, kvm, ready))).await?;
    Ok(())
}

fn status(name: &str, address: SocketAddr, machine: Machine, kvm: bool, ready: bool) -> Value {
    let now = jiff::Timestamp::now().to_string();
    let mut capacity = json!({
        "cpu": machine.cpus.to_string(), "memory": format!("{}Ki", machine.memory / 1024), "pods": "1000",
    });
    if kvm {
        capacity["devices.kubevirt.io/kvm"] = json!("1000");
    }
    let (status, reason, message) = if ready {
        ("True", "KubeletReady", "the embedded node runs pods as processes of this machine")
    } else {
        ("False", "NodeStopped", "the embedded node was stopped")
    };
    json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address.ip()}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
        "capacity": capacity, "allocatable": capacity,
        "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
        "nodeInfo": {
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "operatingSystem": "linux",
            "kubeletVersion": concat!("v1.33.0-embedded.", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
            "containerRuntimeVersion": concat!("process://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": rustix::system::uname().release().to_string_lossy(),
            "osImage": "embedded", "machineID": "", "systemUUID": "",
            "bootID": std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim(),
        },
    }})
}
