//! Hosts of a source that disks may be read from directly, with an address and credentials of their own (ESXi).
use std::collections::BTreeMap;

use async_trait::async_trait;
use forklift_inventory::Record;

/// What the inventory knows of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Id in the source.
    pub id: String,
    /// Name in the source.
    pub name: String,
    /// It is in maintenance.
    pub in_maintenance: bool,
    /// The source's judgement: `green`, `yellow`, `red` or `gray`.
    pub status: String,
    /// The thumbprint of its certificate (SHA-1, hexadecimal with colons), by which it is recognised.
    pub thumbprint: String,
}

/// How a host is reached. The secret is not shown by `Debug`.
#[derive(Clone)]
pub struct HostEndpoint {
    /// Id of the host in the source.
    pub id: String,
    /// The address of its API, `https://<ip>/sdk`.
    pub url: String,
    /// The decoded data of its secret.
    pub secret: BTreeMap<String, Vec<u8>>,
    /// The thumbprint that the inventory has of it; empty when it has none.
    pub thumbprint: String,
    /// Name of the secret, in the provider's namespace, that importers get a copy of; empty where there is none: disks
    /// are read by way of the provider's own server then.
    pub secret_name: String,
}

impl std::fmt::Debug for HostEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.secret.keys().collect();
        f.debug_struct("HostEndpoint").field("id", &self.id).field("url", &self.url).field("secret", &keys).finish()
    }
}

/// Why a host cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Its certificate is not the one that it should have.
    #[error("{0}")]
    Certificate(String),
    /// It refused the credentials: asking again could lock the account.
    #[error("{0}")]
    Auth(String),
    /// It did not answer as it should.
    #[error("{0}")]
    Failed(String),
}

/// The hosts of a kind of source.
#[async_trait]
pub trait Hosts: Send + Sync {
    /// Returns the collection that references to hosts mean.
    fn collection(&self) -> &'static str;

    /// Reads a host's record.
    fn facts(&self, record: &Record) -> HostFacts;

    /// Logs in to the host and out again.
    async fn test(&self, host: &HostEndpoint) -> Result<(), HostError>;
}
