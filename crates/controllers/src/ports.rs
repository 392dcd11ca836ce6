//! What the reconcilers need of providers: one port, implemented over `forklift_providers` and the inventory, and by
//! tests with machines made up on the spot.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::{Provider, ProviderType, Ref};
use forklift_core::source::{Capabilities, Source, SourceError};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Everything that is needed to reach a provider.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The decoded data of its secret.
    pub secret: BTreeMap<String, Vec<u8>>,
    /// Base URL of the provider's server in the cluster (OVA), when it has one.
    pub server: Option<String>,
}

impl Endpoint {
    /// Returns a value of the secret as text.
    pub fn secret_text(&self, key: &str) -> Option<&str> {
        self.secret.get(key).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
    }
}

/// Why a connection test failed.
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

/// Kinds of things that are named by a [`Ref`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A VM.
    Vm,
    /// A network.
    Network,
    /// Storage: datastore, domain, volume type.
    Storage,
}

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

    /// Tests the connection.
    fn test<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<(), ConnectError>>;

    /// Fills the inventory and keeps it current until `cancel`; an error ends it, and it is started again later.
    fn collect(&self, endpoint: Endpoint, cancel: CancellationToken) -> BoxFuture<'static, Result<(), String>>;

    /// Returns whether the inventory of a provider is complete.
    fn loaded(&self, provider: &Provider) -> bool;

    /// Drops the inventory of a provider.
    fn forget(&self, provider: &Provider);

    /// Returns the source of a provider.
    fn source(&self, provider: &Provider) -> Result<Arc<dyn Source>, SourceError>;

    /// Finds a thing in the inventory.
    fn find<'a>(&'a self, provider: &'a Provider, kind: Kind, reference: &'a Ref) -> BoxFuture<'a, Found>;

    /// Returns the inventory's whole record of a VM, as hooks get it.
    fn workload(&self, provider: &Provider, id: &str) -> Option<serde_json::Value>;
}
