//! Ports to a source: what the migration asks of any provider, and how its disks are read.
//!
//! The required part is small; a provider that cannot do something says so in [`Capabilities`] (plain data), and the
//! itinerary leaves the phase out. No provider name is compared anywhere else.
use std::future::Future;
use std::pin::Pin;

use forklift_api::worker::ImportSource;
use serde::{Deserialize, Serialize};

use crate::machine::{Machine, PowerState, VmIdentity};

/// A future that a port returns; no runtime is assumed.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SourceError>> + Send + 'a>>;

/// What a source can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// VMs have a power state that can be read and changed.
    pub power: bool,
    /// Warm migration: snapshots and changed ranges.
    pub warm: bool,
    /// Live migration between KubeVirt clusters.
    pub live: bool,
    /// Conversion of disks that somebody else copied.
    pub conversion_only: bool,
    /// Guests have to be converted by virt-v2v unless the plan asks for a raw copy.
    pub conversion: bool,
    /// Static addresses can be kept.
    pub static_ips: bool,
    /// LUKS keys can be given.
    pub luks: bool,
    /// VMs are scheduled per host.
    pub hosts: bool,
    /// Snapshot removal is a task of its own that is waited for (vSphere).
    pub snapshot_tasks: bool,
    /// VMs can be migrated warm although they have snapshots of somebody else.
    pub foreign_snapshots: bool,
    /// Operating systems go by VMware's guest ids, by which the target's preference is found.
    pub guest_ids: bool,
}

impl Capabilities {
    /// Returns what an appliance in a file (OVA) can do.
    pub const fn appliance() -> Self {
        Self {
            power: false,
            warm: false,
            live: false,
            conversion_only: false,
            conversion: true,
            static_ips: false,
            luks: true,
            hosts: false,
            snapshot_tasks: false,
            foreign_snapshots: false,
            guest_ids: false,
        }
    }
}

/// How a disk of the source is read: data for the importer, and what has to be mounted for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskSource {
    /// Where the bytes are.
    pub source: ImportSource,
    /// Stable identity of the content (path, size, modification time, digest …): a changed identity means that a
    /// half-done copy must not be resumed.
    pub identity: String,
    /// Virtual size in bytes, where the descriptor tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<u64>,
    /// Secret in the provider's namespace with the source's credentials: the importers get a copy of it as
    /// `/etc/secret`, for as long as the migration runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Id of the host that the bytes come from; empty where there are no hosts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Name of the datastore that the bytes come from; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub datastore: String,
}

/// Why a source did not do what it was asked: a decision for the caller, not a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The provider is not ready yet; ask again, do not count it.
    #[error("provider is not ready: {0}")]
    NotReady(String),
    /// The VM (or snapshot, disk) does not exist.
    #[error("{0} was not found in the source")]
    NotFound(String),
    /// Something else is being done to the VM; ask again.
    #[error("source is busy: {0}")]
    Conflict(String),
    /// Credentials or rights are not enough.
    #[error("source refused: {0}")]
    Denied(String),
    /// No connection.
    #[error("cannot reach the source: {0}")]
    Unreachable(String),
    /// Anything else; counted as a failed attempt.
    #[error("{0}")]
    Other(String),
}

/// A source of VMs. Every call may be repeated after a crash and must then change nothing twice; dropping a returned
/// future cancels the wait, not necessarily the operation.
pub trait Source: Send + Sync {
    /// Returns what this source can do.
    fn capabilities(&self) -> Capabilities;

    /// Returns the VM, read from the inventory.
    fn machine<'a>(&'a self, id: &'a str) -> PortFuture<'a, Machine>;

    /// Returns identity and power state, read from the source itself and not from a cache.
    fn power_state<'a>(&'a self, id: &'a str) -> PortFuture<'a, (VmIdentity, PowerState)>;

    /// Shuts the guest down. Succeeds when it is already off. Sources without power control do nothing.
    fn power_off<'a>(&'a self, vm: &'a VmIdentity) -> PortFuture<'a, ()>;

    /// Starts the VM. Succeeds when it is already running. Sources without power control do nothing.
    fn power_on<'a>(&'a self, vm: &'a VmIdentity) -> PortFuture<'a, ()>;

    /// Returns how the disks of a VM are read, in the order of [`Machine::disks`].
    fn disk_sources<'a>(&'a self, machine: &'a Machine) -> PortFuture<'a, Vec<DiskSource>>;

    /// Returns the snapshot port, when the source has one.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }
}

/// Snapshots for warm migration. Names are derived by the caller, so that `ensure` can be repeated.
pub trait Snapshots: Send + Sync {
    /// Returns the snapshots of a VM whose names start with `prefix`.
    fn list<'a>(&'a self, vm: &'a VmIdentity, prefix: &'a str) -> PortFuture<'a, Vec<SnapshotFact>>;

    /// Starts the snapshot unless it exists or its task runs.
    fn ensure<'a>(&'a self, vm: &'a VmIdentity, name: &'a str) -> PortFuture<'a, ()>;

    /// Starts the removal unless the snapshot is gone or its removal runs.
    fn remove<'a>(&'a self, vm: &'a VmIdentity, name: &'a str) -> PortFuture<'a, ()>;
}

/// Snapshots that an inspection takes for itself, of a VM that no plan is about. Names are derived by the caller, so that
/// every call can be repeated; snapshots of other names are never touched.
pub trait InspectionSnapshots: Send + Sync {
    /// Returns the snapshot of this name, and starts one where there is none and none is being taken. `None`: not there
    /// yet, ask again.
    fn take<'a>(&'a self, vm: &'a str, name: &'a str) -> PortFuture<'a, Option<SnapshotFact>>;

    /// Starts the removal of the snapshot of this name; returns whether there is none (any more).
    fn remove<'a>(&'a self, vm: &'a str, name: &'a str) -> PortFuture<'a, bool>;
}

/// A snapshot of ours that exists in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SnapshotFact {
    /// The derived name.
    pub name: String,
    /// Id in the source (moRef).
    pub id: String,
    /// Whether it can be read from.
    pub ready: bool,
    /// Change identity per disk key, for the next round.
    pub deltas: Vec<DiskDelta>,
}

/// Change identity of a disk at a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskDelta {
    /// Disk key.
    pub disk: String,
    /// Change id (vSphere) or disk snapshot id.
    pub delta_id: String,
}
