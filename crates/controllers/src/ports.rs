//! What the reconcilers need of providers: one port, implemented over `forklift_providers` and the inventory, and by
//! tests with machines made up on the spot.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::{Condition, Provider, ProviderType, Ref};
use forklift_core::source::{Capabilities, InspectionSnapshots, Source, SourceError};
pub use forklift_providers::{
    Changed, ConnectError, Endpoint, Examination, FoundHost, HostEndpoint, HostError, HostFacts, Thing,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

/// What a look-up by reference gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The thing, with id and name known.
    One(Ref),
    /// Nothing of this id or name.
    None,
    /// Several of this name.
    Many,
    /// The inventory is not complete: nobody knows yet.
    NotLoaded,
}

/// All providers, behind one door.
pub trait Providers: Send + Sync + 'static {
    /// Returns what sources of a type can do; `None` for types that cannot be used as a source yet.
    fn capabilities(&self, type_: ProviderType) -> Option<Capabilities>;

    /// Returns what is wrong with a provider's settings and secret; asks nobody.
    fn check(&self, endpoint: &Endpoint) -> Vec<Condition>;

    /// Tests the connection, and looks at what migrations will need of the source.
    fn examine<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Examination, ConnectError>>;

    /// Returns whether sources of a type have hosts that can be reached directly.
    fn has_hosts(&self, type_: ProviderType) -> bool;

    /// Finds a host in the inventory.
    fn host<'a>(&'a self, provider: &'a Provider, reference: &'a Ref) -> BoxFuture<'a, FoundHost>;

    /// Logs in to a host and out again.
    fn test_host<'a>(&'a self, provider: &'a Provider, host: &'a HostEndpoint) -> BoxFuture<'a, Result<(), HostError>>;

    /// Says how a host is reached directly from now on; `None` for not at all.
    fn set_direct(&self, provider_uid: &str, host: &str, endpoint: Option<HostEndpoint>);

    /// Fills the inventory and keeps it current until `cancel`; an error ends it, and it is started again later, but for
    /// refused credentials. What an earlier run collected stays until it is found to be gone.
    fn collect(&self, endpoint: Endpoint, cancel: CancellationToken) -> BoxFuture<'static, Result<(), ConnectError>>;

    /// Returns whether the inventory of a provider is complete.
    fn loaded(&self, provider: &Provider) -> bool;

    /// Returns what changes in the inventory of a provider from now on; ends with that inventory. `None` while it is not
    /// complete, and where nobody tells.
    fn changes(&self, _provider: &Provider) -> Option<BoxStream<'static, Changed>> {
        None
    }

    /// Has VMs read at the source and judged by the rules, before a migration acts on what the inventory says of them;
    /// or says, for users, why that is not to be had.
    fn fresh<'a>(&'a self, _provider: &'a Provider, _ids: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    /// Takes a newer Provider object, for what the inventory shows of it.
    fn refresh(&self, provider: &Provider);

    /// Returns why the inventory could not be refreshed last, if so.
    fn failure(&self, provider: &Provider) -> Option<String>;

    /// Drops the inventory of a provider.
    fn forget(&self, provider: &Provider);

    /// Returns the source of a provider.
    fn source(&self, provider: &Provider) -> Result<Arc<dyn Source>, SourceError>;

    /// Finds a thing in the inventory.
    fn find<'a>(&'a self, provider: &'a Provider, thing: Thing, reference: &'a Ref) -> BoxFuture<'a, Found>;

    /// Logs in by a connection secret, for an inspection that takes its own snapshot.
    fn inspection<'a>(
        &'a self,
        connection: &'a BTreeMap<String, Vec<u8>>,
    ) -> BoxFuture<'a, Result<Arc<dyn InspectionSnapshots>, SourceError>>;

    /// Returns the inventory's whole record of a VM, as hooks get it.
    fn workload(&self, provider: &Provider, id: &str) -> Option<serde_json::Value>;
}
