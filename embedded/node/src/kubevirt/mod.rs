//! KubeVirt's stand-in: VirtualMachine → VirtualMachineInstance → virt-launcher pod → QEMU.
//!
//! ```text
//! VirtualMachine ──vm──► VirtualMachineInstance ──vmi──► Pod virt-launcher-… ──kubelet──► QEMU
//!   run strategy            phases, conditions             a pod like any other             │
//!        ▲                       ▲          └──────────── monitor: paused, guest agent ◄────┤
//!        └──── api: start, stop, console, vnc, addvolume … (subresources.kubevirt.io) ──────┘
//! ```
//! The kubelet knows of it only that such a pod is asked to end by the guest's power button
//! ([`qmp_socket`]) before it gets a signal.

pub mod agent;
pub mod api;
pub mod hotplug;
pub mod instancetype;
pub mod monitor;
pub mod networks;
pub mod probe;
pub mod qemu;
pub mod qmp;
pub mod start;
pub mod status;
pub mod vm;
pub mod vmi;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forklift_kubevirt_types::vmi::phase as vmi_phase;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::runtime::reflector::Store;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

pub use monitor::Monitors;
pub use networks::Networks;
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
    /// The disks behind the images of `containerDisk` volumes.
    pub images: ImageTable,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// The processor's help.
    pub accelerator: Accelerator,
    /// What running guests tell.
    pub monitors: Arc<Monitors>,
    /// The switches of Multus networks.
    pub networks: Networks,
    /// The node is to stop.
    pub shutdown: CancellationToken,
}

impl Setting {
    /// Where a virt-launcher pod's sockets are on this machine.
    pub fn sockets(&self, pod: &Pod) -> PathBuf {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.data_dir.join("pods").join(uid).join("volumes").join(qemu::PRIVATE)
    }
}

/// What is watched.
pub struct Stores {
    /// Machines.
    pub machines: Store<VirtualMachine>,
    /// Instances.
    pub instances: Store<VirtualMachineInstance>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Volume claims.
    pub claims: Store<PersistentVolumeClaim>,
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
    let setting = Arc::new(setting);
    let client = &setting.client;
    if !crds_present(&setting).await {
        return;
    }
    // ends with this function, which drops it
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(api::run(setting.clone()));
    let (machines, machine_changes) = watch::<VirtualMachine>(client);
    let (instances, instance_changes) = watch::<VirtualMachineInstance>(client);
    let (pods, pod_changes) = watch::<Pod>(client);
    let (claims, claim_changes) = watch::<PersistentVolumeClaim>(client);
    let stores = Stores { machines, instances, pods, claims };
    let changes = futures::stream::select_all([machine_changes, instance_changes, pod_changes, claim_changes]);
    let mut guests = setting.monitors.changes();
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
            // the sender is in the setting
            _ = guests.changed() => {}
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
        let ready = futures::future::join4(
            stores.machines.wait_until_ready(),
            stores.instances.wait_until_ready(),
            stores.pods.wait_until_ready(),
            stores.claims.wait_until_ready(),
        );
        if futures::FutureExt::now_or_never(ready).is_none() {
            continue;
        }
        let now = jiff::Timestamp::now();
        let soon = now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(now);
        wake = None;
        for machine in stores.machines.state() {
            let next = vm::reconcile(client, &events, &machine, &stores, now).await.unwrap_or_else(|error| {
                report(&error, "virtual machine", machine.metadata.name.as_deref());
                Some(soon)
            });
            wake = [wake, next].into_iter().flatten().min();
        }
        for instance in stores.instances.state() {
            let next =
                vmi::reconcile(&setting, &events, &mut notes, &instance, &stores).await.unwrap_or_else(|error| {
                    report(&error, "virtual machine instance", instance.metadata.name.as_deref());
                    Some(soon)
                });
            wake = [wake, next].into_iter().flatten().min();
        }
        let instances = stores.instances.state();
        let runs = |uid: &str| {
            let mut all = instances.iter();
            all.any(|one| one.metadata.uid.as_deref() == Some(uid) && phase(one) == vmi_phase::RUNNING)
        };
        setting.monitors.retain(runs);
        setting.networks.retain(|network| instances.iter().any(|instance| is_on(instance, network)));
    }
}

fn phase(instance: &VirtualMachineInstance) -> &str {
    instance.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether an instance that has not ended is on a network, which is `namespace/name`.
fn is_on(instance: &VirtualMachineInstance, network: &str) -> bool {
    let own = instance.metadata.namespace.as_deref().unwrap_or_default();
    let mut names = instance.spec.networks.iter().filter_map(|network| network.multus.as_ref());
    let ended = matches!(phase(instance), vmi_phase::SUCCEEDED | vmi_phase::FAILED);
    !ended && names.any(|multus| multus.network_name == network || format!("{own}/{}", multus.network_name) == network)
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
