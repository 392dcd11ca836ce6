//! The inspection worker: looks into the disks of a VM at a snapshot, where they are, before anything is copied.
//!
//! ```text
//! snapshot's disks ─► readers of the importer ─► NBD on a socket of our own ─► libguestfs ─► what is in the guest
//!                      (VDDK, datastore ranges)   (read-only, cached)                             │
//!                              HTTP :8080 /ready, /results ◄── report ◄── concerns ◄──────────────┘
//! ```
//! | variable | meaning | default |
//! |---|---|---|
//! | `VM_MOREF`, `SNAPSHOT_MOREF` | what is inspected | – |
//! | `INSTANCE_UUID` | the VM's instance UUID, compared before anything is read | not compared |
//! | `TRANSFER_METHOD` | `ranges` or `vddk`; `nfc` reads streams only, then nothing is looked into | probed |
//! | `V2V_RootDisk` | root file system of a guest with several systems | the first |
//! | `V2V_luksDir`, `V2V_NBDE_CLEVIS` | keys of encrypted disks | `/etc/luks`, none |
//! | `FORKLIFT_SECRET_DIR` | `url`, `user`, `password`, `fingerprint` … | `/etc/secret` |
//! | `FORKLIFT_VDDK_DIR` | the user's VDDK | none |
//! | `FORKLIFT_VDDK_CONFIG`, `VDDK_TRANSPORTS` | its configuration file, its ways to the bytes | none, `nbdssl` |
//!
//! Nothing is written anywhere: disks are offered read-only, what a journal's replay would write goes to an overlay.

mod concerns;
mod config;
mod guest;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forklift_api::worker::{
    ConversionResult, EXIT_PERMANENT, EXIT_RETRYABLE, InspectionReport, PORT, ReportedMountpoint, ReportedOs,
    WorkerError,
};
use forklift_disk::nbd::serve::Server;

pub use config::Config;
pub use server::Shared;

use crate::conversion::{Tools, kvm};
use crate::importer::VddkHelper;
use crate::importer::vsphere::look::{self, Look};

/// How long a failed inspection waits for somebody to read that it failed; the termination message says why anyway.
const LINGER: Duration = Duration::from_secs(10);

/// Runs the worker with the process's environment.
pub async fn run() -> ExitCode {
    let env = |key: &str| std::env::var(key).ok();
    let shared = Shared::default();
    let config = Config::from_env(env);
    let (listen, log) = config::outputs(env);
    let address = SocketAddr::new(listen, PORT);
    match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => drop(tokio::spawn(axum::serve(listener, server::router(shared.clone())).into_future())),
        Err(error) => tracing::error!(%address, %error, "cannot serve the results"),
    }
    let result = match config {
        Ok(config) => {
            let mut tools = Tools::on_path();
            tools.env = kvm::libguestfs_env(env).await;
            let helper = VddkHelper::default();
            tokio::select! {
                result = inspect(&config, &tools, &helper, &shared) => result,
                () = crate::terminated() => return ExitCode::from(EXIT_RETRYABLE),
            }
        }
        Err(error) => Err(error),
    };
    let Err(error) = result else {
        tokio::select! {
            () = shared.shutdown() => {}
            () = crate::terminated() => {}
        }
        return ExitCode::SUCCESS;
    };
    tracing::error!(code = error.code, hint = error.hint, "{}", error.message);
    let code = if error.retryable { EXIT_RETRYABLE } else { EXIT_PERMANENT };
    shared.fail(error.clone());
    let left = ConversionResult { error: Some(error), ..ConversionResult::default() };
    let written = serde_json::to_vec(&left).map_err(std::io::Error::from).and_then(|text| std::fs::write(&log, text));
    if let Err(error) = written {
        tracing::warn!(path = %log.display(), %error, "cannot leave the error for the pod's status");
    }
    let _ = tokio::time::timeout(LINGER, shared.shutdown()).await;
    ExitCode::from(code)
}

/// Looks into the guest, and shows what it found.
pub async fn inspect(
    config: &Config,
    tools: &Tools,
    helper: &VddkHelper,
    shared: &Shared,
) -> Result<InspectionReport, WorkerError> {
    shared.say("Opening", "Opening the disks of the snapshot");
    let look =
        look::open(&config.order, &config.snapshot, &config.secret, helper, |text| shared.say("Opening", text)).await?;
    let result = of_look(config, tools, &look, shared).await;
    let read = look.bytes_read();
    look.close().await;
    let mut report = result?;
    report.bytes_read = read;
    tracing::info!(bytes = read, concerns = report.all_concerns.len(), "the guest is inspected");
    shared.finish(report.clone());
    Ok(report)
}

async fn of_look(
    config: &Config,
    tools: &Tools,
    look: &Look,
    shared: &Shared,
) -> Result<InspectionReport, WorkerError> {
    let mut report = InspectionReport::default();
    let mut found = guest::Guest::default();
    if !look.opened.is_empty() {
        let folder = Sockets::new()?;
        let counters = look.counters();
        shared.counts(move || counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum());
        let mut servers = Vec::new();
        for (number, disk) in look.opened.iter().enumerate() {
            tracing::info!(disk = disk.file, way = disk.way, "is looked into");
            let path = folder.0.join(format!("d{number}"));
            servers.push(Server::start(&path, disk.image.clone()).map_err(|error| {
                WorkerError::new("Io", format!("cannot offer {} on {}: {error}", disk.file, path.display()), "", true)
            })?);
        }
        let uris: Vec<String> = servers.iter().map(Server::uri).collect();
        let looked = guest::look(config, tools, &uris, |text| shared.say("Inspecting", text)).await;
        // a disk that could not be read shows as a guest that makes no sense
        if let Some((disk, why)) = look.opened.iter().zip(&servers).find_map(|(d, s)| Some((d, s.failure()?))) {
            return Err(WorkerError::new(
                "SourceUnreadable",
                format!("{}: {why}", disk.file),
                "see the events of the VM",
                true,
            ));
        }
        found = looked.map_err(|error| error.to_worker_error())?;
    }
    report.all_concerns = concerns::concerns(&found, &look.unread, config);
    report.passed = report.all_concerns.is_empty();
    report.all_checks_passed = report.passed;
    if let Some(root) = found.root(config.root_disk.as_deref()) {
        report.os_info = Some(ReportedOs {
            name: root.title(),
            distro: root.distro.clone(),
            major_version: root.major.clone(),
            architecture: root.arch.clone(),
        });
        report.mountpoints = root
            .mountpoints
            .iter()
            .map(|(point, device)| ReportedMountpoint { device: device.clone(), mount_point: point.clone() })
            .collect();
    }
    report.filesystems = found.filesystems;
    Ok(report)
}

/// A folder for sockets that nobody else may enter; the paths of sockets are short.
struct Sockets(PathBuf);

impl Sockets {
    fn new() -> Result<Self, WorkerError> {
        use std::os::unix::fs::DirBuilderExt;
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fk-look-{}-{number}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| WorkerError::new("Io", format!("cannot create {}: {error}", path.display()), "", true))?;
        Ok(Self(path))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // the sockets in it went with their servers
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
