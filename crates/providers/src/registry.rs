//! All providers behind one door, over one inventory.

use std::sync::Arc;

use forklift_api::{Provider, ProviderType, Ref};
use forklift_core::source::{Capabilities, Source, SourceError};
use forklift_inventory::{FindError, Inventory, ProviderEntry, Record, Reference};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{ConnectError, Context, Endpoint, Opened, ProviderKind, Thing, kind};

/// What a look-up by reference gave.
#[derive(Clone, Debug)]
pub enum Found {
    /// The thing: its reference with id and name known, and its record.
    One(Ref, Arc<Record>),
    /// Nothing of this id or name.
    None,
    /// Several of this name.
    Many,
    /// The inventory is not complete, or its source does not answer: nobody knows yet.
    NotLoaded,
}

/// The providers of one inventory.
#[derive(Clone)]
pub struct Registry {
    inventory: Inventory,
    context: Context,
}

impl Registry {
    /// Returns a registry over an inventory.
    pub fn new(inventory: Inventory, context: Context) -> Self {
        Self { inventory, context }
    }

    /// Returns the inventory.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Returns what sources of a type can do; `None` when they cannot be sources.
    pub fn capabilities(&self, provider_type: ProviderType) -> Option<Capabilities> {
        kind(provider_type)?.capabilities()
    }

    /// Tests the connection.
    pub async fn test(&self, endpoint: &Endpoint) -> Result<(), ConnectError> {
        supported(&endpoint.provider)?.test(endpoint, &self.context).await
    }

    /// Fills the provider's inventory and keeps it current until `cancel`. What
    /// an earlier run left is replaced.
    pub async fn collect(&self, endpoint: Endpoint, cancel: CancellationToken) -> Result<(), ConnectError> {
        let kind = supported(&endpoint.provider)?;
        let object = serde_json::to_value(&*endpoint.provider)
            .map_err(|e| ConnectError::Failed(format!("the Provider cannot be shown: {e}")))?;
        match kind.open(&endpoint, &self.context)? {
            Opened::Live(live) => {
                self.inventory.insert(ProviderEntry::live(kind.spec(), object, live));
                cancel.cancelled().await;
                Ok(())
            }
            Opened::Collected(collector) => {
                let entry = self.inventory.insert(ProviderEntry::collected(kind.spec(), object));
                let writer = self.inventory.writer(&entry);
                collector.run(writer, cancel).await
            }
        }
    }

    /// Takes a newer Provider object, for what the REST service shows of it.
    pub fn refresh(&self, provider: &Provider) {
        if let (Some(entry), Ok(object)) = (self.entry(provider), serde_json::to_value(provider)) {
            entry.set_object(object);
        }
    }

    /// Returns whether a provider's inventory is complete.
    pub fn loaded(&self, provider: &Provider) -> bool {
        self.entry(provider).is_some_and(|e| e.store().has_parity())
    }

    /// Returns why a provider's inventory could not be refreshed last, if so.
    pub fn failure(&self, provider: &Provider) -> Option<String> {
        self.entry(provider)?.store().failure()
    }

    /// Drops a provider's inventory.
    pub fn forget(&self, provider: &Provider) {
        self.inventory.remove(uid(provider));
    }

    /// Returns the source of a provider.
    pub fn source(&self, provider: &Provider) -> Result<Arc<dyn Source>, SourceError> {
        let kind = supported(provider).map_err(|e| SourceError::Other(e.to_string()))?;
        let entry = self.entry(provider).ok_or_else(|| SourceError::NotReady(name(provider).to_owned()))?;
        let refused = || SourceError::Other(format!("provider {} can only be a destination", name(provider)));
        kind.source(entry).ok_or_else(refused)
    }

    /// Finds a thing by its reference.
    pub async fn find(&self, provider: &Provider, thing: Thing, reference: &Ref) -> Found {
        let (Ok(kind), Some(entry)) = (supported(provider), self.entry(provider)) else {
            return Found::NotLoaded;
        };
        let wanted = Reference {
            id: Some(reference.id.as_str()),
            name: Some(reference.name.as_str()),
            namespace: Some(reference.namespace.as_str()),
        };
        match entry.find(kind.collection(thing), wanted).await {
            Ok(record) => {
                let mut found = reference.clone();
                found.id.clone_from(&record.id);
                found.name.clone_from(&record.name);
                Found::One(found, record)
            }
            Err(FindError::NotFound { .. }) => Found::None,
            Err(FindError::Ambiguous { .. }) => Found::Many,
            Err(FindError::NotReady { .. }) => Found::NotLoaded,
            Err(FindError::Unreachable { message }) => {
                tracing::warn!(provider = name(provider), message, "a reference cannot be resolved");
                Found::NotLoaded
            }
        }
    }

    /// Returns a VM's workload document, as hooks and rules get it.
    pub fn workload(&self, provider: &Provider, id: &str) -> Option<Value> {
        let entry = self.entry(provider)?;
        let record = entry.store().get(entry.spec().workloads?, id)?;
        Some(entry.store().workload(&record))
    }

    fn entry(&self, provider: &Provider) -> Option<Arc<ProviderEntry>> {
        self.inventory.get(uid(provider))
    }
}

fn supported(provider: &Provider) -> Result<&'static dyn ProviderKind, ConnectError> {
    let provider_type = provider.provider_type().map_err(|e| ConnectError::Failed(e.to_string()))?;
    kind(provider_type)
        .ok_or_else(|| ConnectError::Failed(format!("providers of type {provider_type} are not supported")))
}

fn uid(provider: &Provider) -> &str {
    provider.metadata.uid.as_deref().unwrap_or_default()
}

fn name(provider: &Provider) -> &str {
    provider.metadata.name.as_deref().unwrap_or_default()
}
