//! Providers: a folder per kind of source, and the registry over them.
//!
//! ```text
//! Registry ── kind(type) ──► ProviderKind ─┬─ check     is what the user wrote sound
//!                                          ├─ test      is it reachable; examine: is it as migrations need it
//!                                          ├─ hosts     hosts that are reached directly, where there are some
//!                                          ├─ open      a collector for the inventory, or a live source
//!                                          └─ source    VMs as machines, disks as importer input
//! ```
//! This file is the only place that looks at the provider type. A provider's
//! folder holds its wire client, its records, its collector, its translation to
//! [`forklift_core::machine::Machine`] and its [`Source`].

mod hosts;
pub mod openshift;
pub mod ova;
mod registry;
mod shared;
pub mod tls;
pub mod vsphere;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use forklift_api::{Condition, Provider, ProviderType};
use forklift_core::source::{Capabilities, InspectionSnapshots, Source, SourceError};
use forklift_inventory::{Live, ProviderEntry, ProviderSpec, Writer};
use tokio_util::sync::CancellationToken;

pub use hosts::{HostEndpoint, HostError, HostFacts, Hosts};
pub use registry::{Changed, Found, FoundHost, Registry};
pub use shared::{Held, Shared};

/// Returns what there is of a provider type; `None` for types that are not supported yet.
pub fn kind(provider_type: ProviderType) -> Option<&'static dyn ProviderKind> {
    match provider_type {
        ProviderType::Ova => Some(&ova::Ova),
        ProviderType::OpenShift => Some(&openshift::OpenShift),
        ProviderType::VSphere => Some(&vsphere::VSphere),
        ProviderType::OVirt
        | ProviderType::OpenStack
        | ProviderType::Ec2
        | ProviderType::HyperV
        | ProviderType::Nutanix => None,
    }
}

/// Everything that is needed to reach a provider.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The decoded data of its secret.
    pub secret: BTreeMap<String, Vec<u8>>,
    /// Base URL of the provider's server in the cluster (OVA), when it is up.
    pub server: Option<String>,
    /// The hosts that are reached directly, by their ids in the source: those of Host objects that are ready.
    pub hosts: BTreeMap<String, HostEndpoint>,
}

impl Endpoint {
    /// Returns a value of the secret as text.
    pub fn secret_text(&self, key: &str) -> Option<&str> {
        self.secret.get(key).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
    }
}

/// What the process itself brings in: our own cluster.
#[derive(Clone)]
pub struct Context {
    /// Client of the cluster that we run on.
    pub client: kube::Client,
    /// How it is reached, for clients that act as a caller.
    pub config: Option<kube::Config>,
    /// The controllers' namespace.
    pub namespace: String,
    /// Sessions with sources, which the parts of a provider share.
    pub shared: Shared,
}

/// Why a provider cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The source refused the credentials: asking again could lock the account.
    #[error("{0}")]
    Auth(String),
    /// It did not answer as it should.
    #[error("{0}")]
    Failed(String),
    /// Its server in the cluster is not up yet.
    #[error("{0}")]
    Starting(String),
}

/// What a look at a provider found, besides that it can be reached.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// What users have to know.
    pub conditions: Vec<Condition>,
    /// The thumbprint of the server's certificate: SHA-1, upper case hexadecimal with colons.
    pub fingerprint: Option<String>,
    /// How long this holds while the collector does well; zero where a look costs nothing.
    pub holds: Duration,
}

/// The things that maps and plans refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    /// A VM.
    Vm,
    /// A network.
    Network,
    /// Storage: datastore, domain, volume type, storage class.
    Storage,
}

/// How a provider's inventory comes in.
pub enum Opened {
    /// A collector fills the store.
    Collected(Box<dyn Collector>),
    /// It is listed at each request.
    Live(Arc<dyn Live>),
}

/// Fills a provider's store and keeps it equal to the source.
///
/// Ends when cancelled, or with an error after which it is started anew. A
/// passing failure is no end: it is noted with [`Writer::failed`] and tried again.
/// Refused credentials are an end, with [`ConnectError::Auth`]: nothing logs in
/// again until somebody changed them.
///
/// The store may hold what an earlier run left (after new credentials, or a
/// failure): it is served meanwhile. Once everything was read, what the source
/// no longer has must go.
#[async_trait]
pub trait Collector: Send {
    /// Runs until `cancel`.
    async fn run(self: Box<Self>, store: Writer, cancel: CancellationToken) -> Result<(), ConnectError>;
}

/// One kind of provider.
#[async_trait]
pub trait ProviderKind: Send + Sync {
    /// Returns the table of its inventory.
    fn spec(&self) -> &'static ProviderSpec;

    /// Returns what it can do as a source; `None` when it is only a destination.
    fn capabilities(&self) -> Option<Capabilities>;

    /// Returns the collection that references to a thing mean.
    fn collection(&self, thing: Thing) -> &'static str;

    /// Returns what is wrong with the settings and the secret. Asks nobody.
    fn check(&self, _endpoint: &Endpoint) -> Vec<Condition> {
        Vec::new()
    }

    /// Tests the connection.
    async fn test(&self, endpoint: &Endpoint, context: &Context) -> Result<(), ConnectError>;

    /// Tests the connection, and looks at what migrations will need of the source.
    async fn examine(&self, endpoint: &Endpoint, context: &Context) -> Result<Examination, ConnectError> {
        self.test(endpoint, context).await?;
        Ok(Examination::default())
    }

    /// Returns the hosts' port, when the source has hosts that can be reached directly.
    fn hosts(&self) -> Option<&dyn Hosts> {
        None
    }

    /// Returns how its inventory comes in. Must not wait for the source.
    fn open(&self, endpoint: &Endpoint, context: &Context) -> Result<Opened, ConnectError>;

    /// Returns the source over an inventory; `None` when it is only a destination. Must not wait for the source.
    fn source(&self, entry: Arc<ProviderEntry>, endpoint: &Endpoint, context: &Context) -> Option<Arc<dyn Source>>;

    /// Logs in by the data of a connection secret (`url`, `user`, `password` …), for an inspection that takes its own
    /// snapshot; `None` where VMs of this type are not inspected at their source.
    async fn inspection(
        &self,
        _connection: &BTreeMap<String, Vec<u8>>,
    ) -> Option<Result<Arc<dyn InspectionSnapshots>, SourceError>> {
        None
    }
}
