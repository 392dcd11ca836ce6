//! KubeVirt's stand-in: VirtualMachine → VirtualMachineInstance → virt-launcher pod → QEMU.
//!
//! ```text
//! VirtualMachine ──vm──► VirtualMachineInstance ──vmi──► Pod virt-launcher-… ──kubelet──► QEMU
//!   run strategy            phases, conditions             a pod like any other
//! ```
//! The kubelet knows of it only that such a pod is asked to end by the guest's power button
//! ([`qmp_socket`]) before it gets a signal.

pub mod probe;
pub mod qemu;
pub mod qmp;
pub mod vm;
pub mod vmi;

use std::path::{Path, PathBuf};

use forklift_kubevirt_types::vmi::InterfaceStatus;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

pub use probe::Accelerator;

use crate::events::Events;
use crate::images::ImageTable;
use crate::volumes::provision::watch;

/// What the controllers of machines need.
pub struct Setting {
    /// The API.
    pub client: Client,
    /// The node's name.
    pub node: String,
    /// The processor's help.
    pub accelerator: Accelerator,
    /// The node is to stop.
    pub shutdown: CancellationToken,
}

struct Stores {
    machines: Store<VirtualMachine>,
    instances: Store<VirtualMachineInstance>,
    pods: Store<Pod>,
}

/// Adds the image that virt-launcher pods name.
pub fn with_images(images: ImageTable) -> ImageTable {
    images.with(qemu::IMAGE, Vec::<String>::new())
}

/// The container of a pod that ends by QEMU's control socket, and that socket.
pub fn qmp_socket(pod: &Pod, volumes: &Path) -> Option<(&'static str, PathBuf)> {
    let label = pod.metadata.labels.as_ref()?.get("kubevirt.io")?;
    (label == "virt-launcher").then(|| (qemu::COMPUTE, volumes.join(qemu::PRIVATE).join("qmp.sock")))
}

/// Works on all machines until shutdown.
pub async fn run(setting: Setting) {
    let client = &setting.client;
    if !crds_present(&setting).await {
        return;
    }
    let (machines, machine_changes) = watch::<VirtualMachine>(client);
    let (instances, instance_changes) = watch::<VirtualMachineInstance>(client);
    let (pods, pod_changes) = watch::<Pod>(client);
    let stores = Stores { machines, instances, pods };
    let changes = futures::stream::select_all([machine_changes, instance_changes, pod_changes]);
    futures::pin_mut!(changes);
    let events = Events::new(client.clone(), "virt-controller");
    let mut notes = vmi::Told::default();
    let mut wake: Option<jiff::Timestamp> = None;
    loop {
        let pause = wake.map(|at| {
            let left = at.duration_since(jiff::Timestamp::now());
            std::time::Duration::try_from(left).unwrap_or_default()
        });
        tokio::select! {
            () = setting.shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
        let ready = futures::future::join3(
            stores.machines.wait_until_ready(),
            stores.instances.wait_until_ready(),
            stores.pods.wait_until_ready(),
        );
        if futures::FutureExt::now_or_never(ready).is_none() {
            continue;
        }
        let now = jiff::Timestamp::now();
        let soon = now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(now);
        wake = None;
        for machine in stores.machines.state() {
            let next = vm::reconcile(client, &events, &machine, &stores.instances, now).await.unwrap_or_else(|error| {
                report(&error, "virtual machine", machine.metadata.name.as_deref());
                Some(soon)
            });
            wake = [wake, next].into_iter().flatten().min();
        }
        for instance in stores.instances.state() {
            let next =
                vmi::reconcile(&setting, &events, &mut notes, &instance, &stores.pods).await.unwrap_or_else(|error| {
                    report(&error, "virtual machine instance", instance.metadata.name.as_deref());
                    Some(soon)
                });
            wake = [wake, next].into_iter().flatten().min();
        }
    }
}

/// Waits until the API server knows the kinds; without them watching only makes noise.
async fn crds_present(setting: &Setting) -> bool {
    loop {
        let machines: Api<VirtualMachine> = Api::all(setting.client.clone());
        let instances: Api<VirtualMachineInstance> = Api::all(setting.client.clone());
        let one = kube::api::ListParams::default().limit(1);
        if machines.list(&one).await.is_ok() && instances.list(&one).await.is_ok() {
            return true;
        }
        tokio::select! {
            () = setting.shutdown.cancelled() => return false,
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        }
    }
}

fn report(error: &kube::Error, kind: &str, name: Option<&str>) {
    // gone or changed meanwhile: the next change tells
    if !matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
        tracing::warn!(%error, name, "{kind} not served");
    }
}

/// The interfaces that a running instance shows.
fn interfaces(vmi: &VirtualMachineInstance, pod: &Pod) -> Vec<InterfaceStatus> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let on_pod_network =
        |name: &str| vmi.spec.networks.iter().any(|network| network.name == name && network.pod.is_some());
    let list = vmi.spec.domain.devices.interfaces.iter().map(|interface| {
        let ip = ip.clone().filter(|_| on_pod_network(&interface.name));
        InterfaceStatus {
            name: Some(interface.name.clone()),
            mac: Some(qemu::mac(vmi, interface)),
            ip_addresses: ip.iter().cloned().collect(),
            ip_address: ip,
            info_source: Some("domain".into()),
            ..InterfaceStatus::default()
        }
    });
    list.collect()
}
