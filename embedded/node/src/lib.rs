//! The embedded node: a stand-in for kubelet, scheduler, Job controller, volume provisioner
//! and KubeVirt, for a machine without a cluster.
//!
//! It knows nothing of the programs that it runs: it finds its work through the Kubernetes
//! API, runs pods as local processes ([`images::ImageTable`] says which image is which
//! program), keeps volumes as directories and files, and runs virtual machines in QEMU.
//! The README lists what is real and what is not.

pub mod events;
pub mod garbage;
pub mod images;
pub mod jobs;
pub mod kubelet;
pub mod kubevirt;
pub mod network;
pub mod nfs;
pub mod objects;
pub mod quantity;
pub mod register;
pub mod scheduler;
pub mod services;
pub mod volumes;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub use images::{Image, ImageTable};
use kubelet::Kubelet;
use kubelet::process::Isolation;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub name: String,
    /// Where pods, volumes and logs are kept.
    pub data_dir: PathBuf,
    /// The bearer token that the kubelet endpoint asks for.
    pub kubelet_token: String,
    /// The programs behind the images.
    pub images: ImageTable,
    /// Where the kubelet endpoint listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bytes that all volumes together may have; none: what the file system has free.
    pub storage_quota: Option<u64>,
    /// The first wait before a container that keeps failing is started again.
    pub restart_backoff: Duration,
    /// How long containers get to end when the node stops.
    pub shutdown_grace: Duration,
    /// Whether containers get namespaces of their own; none: where the kernel allows it.
    pub namespaces: Option<bool>,
    /// Whether these are below a user namespace, as a plain user's are.
    pub user_namespaces: bool,
    /// How often volumes are measured; none: every minute, and directories of pods every ten seconds.
    pub usage_period: Option<Duration>,
    /// How long events and how many ended pods are kept.
    pub keep: garbage::Keep,
    /// How large container logs get.
    pub log_rotation: kubelet::logs::Rotation,
    /// Whether virtual machines are run (needs KubeVirt's CRDs in the API server).
    pub kubevirt: bool,
}

impl Config {
    /// A node with the usual settings.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>, kubelet_token: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            kubelet_token: kubelet_token.into(),
            images: ImageTable::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            storage_quota: None,
            restart_backoff: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
            namespaces: None,
            user_namespaces: false,
            usage_period: None,
            keep: garbage::Keep::default(),
            log_rotation: kubelet::logs::Rotation::default(),
            kubevirt: true,
        }
    }
}

impl Default for Config {
    /// A node named `local` that keeps its files in `node-data` and gives logs to nobody.
    fn default() -> Self {
        Self::new("local", "node-data", uuid::Uuid::new_v4().to_string())
    }
}

/// Runs the node until `shutdown`, then ends its processes.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    // mount points and programs are named from inside other directories
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create {}; choose another data directory", config.data_dir.display()))?;
    let data_dir = config.data_dir.canonicalize().context("cannot resolve the data directory")?;
    for dir in ["pods", "volumes"] {
        std::fs::create_dir_all(data_dir.join(dir))
            .with_context(|| format!("cannot create {dir} in the data directory"))?;
    }
    let _lock = lock(&data_dir)?;
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} for the kubelet endpoint", config.listen))?;
    let address = listener.local_addr().context("cannot read the kubelet endpoint's address")?;

    let machine = register::Machine::look();
    let isolation = match config.namespaces {
        Some(false) => Isolation::None,
        _ if config.user_namespaces => Isolation::UserNamespace,
        Some(true) => Isolation::Namespaces,
        None => kubelet::process::isolation(&data_dir).await,
    };
    let (services, service_changes) = objects::touched::<Service>(&client);
    let (slices, slice_changes) = objects::touched::<EndpointSlice>(&client);
    let names = services::dns::bind(&data_dir.display().to_string()).await;
    let directory = services::Directory { services, slices, server: names.as_ref().map(|sockets| sockets.address) };
    let images = kubevirt::with_images(config.images.clone());
    let kubelet = Arc::new(Kubelet {
        client: client.clone(),
        images,
        data_dir: data_dir.clone(),
        token: config.kubelet_token.clone(),
        facts: kubelet::env::Facts {
            pod_ip: String::new(),
            host_ip: address.ip().to_string(),
            node_name: config.name.clone(),
            cpus: machine.cpus,
            memory: machine.memory,
        },
        isolation,
        groups: kubelet::cgroup::Groups::find(&data_dir),
        running: kubelet::running::Table::default(),
        services: directory.clone(),
        restart_backoff: config.restart_backoff,
        usage_period: config.usage_period.unwrap_or(Duration::from_secs(10)),
        shutdown_grace: config.shutdown_grace,
        addresses: network::Addresses::default(),
        logs: kubelet::logs::Logs::new(config.log_rotation),
        events: events::Events::new(client.clone(), "kubelet"),
        shutdown: shutdown.clone(),
        index: Mutex::new(HashMap::new()),
    });
    tracing::info!(node = config.name, %address, ?isolation, limits = kubelet.groups.usable(), "node starts");

    let mut tasks = tokio::task::JoinSet::new();
    let endpoint = kubelet::server::router(kubelet.clone());
    let stop = shutdown.clone();
    tasks.spawn(async move {
        let serve = axum::serve(listener, endpoint);
        tokio::select! {
            result = serve => if let Err(error) = result {
                tracing::error!(%error, "kubelet endpoint ended");
            },
            () = stop.cancelled() => {}
        }
    });
    let accelerator = kubevirt::Accelerator::new(data_dir.join("kvm.json"));
    tasks.spawn(register::keep(
        client.clone(),
        config.name.clone(),
        address,
        machine,
        config.kubevirt.then(|| accelerator.clone()),
        shutdown.clone(),
    ));
    let groups = kubelet.groups.clone();
    tasks.spawn(kubelet::run(kubelet));
    if let Some(sockets) = names {
        tasks.spawn(services::dns::run(sockets, directory.clone(), shutdown.clone()));
    }
    let (tell, changed) = tokio::sync::watch::channel(());
    tasks.spawn(services::proxy::run(
        directory.clone(),
        events::Events::new(client.clone(), "service-controller"),
        changed,
        shutdown.clone(),
    ));
    let (pods, pod_changes) = objects::touched::<Pod>(&client);
    let changes = futures::stream::select_all([
        service_changes.map(services::endpoints::Change::Service).boxed(),
        pod_changes.map(services::endpoints::Change::Pod).boxed(),
        slice_changes.map(services::endpoints::Change::Slice).boxed(),
    ]);
    let stores = services::endpoints::Stores { services: directory.services, pods, slices: directory.slices };
    let told = move || {
        // the proxy may have stopped first
        let _ = tell.send(());
    };
    tasks.spawn(services::endpoints::run(client.clone(), stores, changes.boxed(), told, shutdown.clone()));
    tasks.spawn(scheduler::run(client.clone(), config.name.clone(), register::labels(&config.name), shutdown.clone()));
    let provisioner = volumes::provision::Provisioner::new(
        client.clone(),
        data_dir.join("volumes"),
        config.name.clone(),
        config.storage_quota,
    );
    tasks.spawn(provisioner.run(shutdown.clone()));
    tasks.spawn(jobs::run(client.clone(), shutdown.clone()));
    tasks.spawn(volumes::usage::watch(client.clone(), config.usage_period, shutdown.clone()));
    tasks.spawn(garbage::run(client.clone(), config.keep, shutdown.clone()));
    if config.kubevirt {
        let setting = kubevirt::Setting {
            client,
            node: config.name,
            images: config.images,
            networks: kubevirt::Networks::new(data_dir.join("networks")),
            data_dir,
            accelerator,
            monitors: Arc::default(),
            shutdown: shutdown.clone(),
        };
        tasks.spawn(kubevirt::run(setting));
    }
    while let Some(result) = tasks.join_next().await {
        if let Err(error) = result
            && error.is_panic()
        {
            shutdown.cancel();
            anyhow::bail!("a part of the node failed: {error}");
        }
    }
    // all containers have ended
    groups.remove();
    Ok(())
}

/// Two nodes on one data directory would kill each other's processes.
fn lock(data_dir: &std::path::Path) -> anyhow::Result<std::fs::File> {
    let path = data_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => {
            anyhow::bail!("{} is in use by another node; stop it or choose another data directory", data_dir.display())
        }
    }
}
