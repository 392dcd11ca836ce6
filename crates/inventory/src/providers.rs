//! All providers of the inventory, by UID.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::disk::Folder;
use crate::validate::Validation;
use crate::{ProviderSpec, Record, Rules, Store, Writer};

/// What is asked of a live source.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveQuery<'a> {
    /// The collection.
    pub kind: &'a str,
    /// Only in this namespace.
    pub namespace: Option<&'a str>,
    /// Only with this name.
    pub name: Option<&'a str>,
    /// The caller's bearer token, for sources that act as the caller.
    pub token: Option<&'a str>,
}

/// A live source could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {kind}: {message}")]
pub struct LiveError {
    /// The collection.
    pub kind: String,
    /// What the source said.
    pub message: String,
}

/// A source that is listed at each request instead of being collected.
#[async_trait]
pub trait Live: Send + Sync {
    /// Lists a collection.
    async fn list(&self, query: LiveQuery<'_>) -> Result<Vec<Arc<Record>>, LiveError>;

    /// Returns a tree by its name; `None` when there is none of that name.
    async fn tree(&self, _name: &str, _detail: i64, _token: Option<&str>) -> Option<Result<Value, LiveError>> {
        None
    }
}

/// A provider and its inventory.
pub struct ProviderEntry {
    uid: String,
    spec: &'static ProviderSpec,
    object: RwLock<Arc<Value>>,
    store: Arc<Store>,
    live: Option<Arc<dyn Live>>,
}

impl ProviderEntry {
    /// Returns an entry for a Provider object that a collector will fill.
    pub fn collected(spec: &'static ProviderSpec, object: Value) -> Self {
        Self::build(spec, object, None)
    }

    /// Returns an entry for a Provider object that is listed live; it has parity at once.
    pub fn live(spec: &'static ProviderSpec, object: Value, live: Arc<dyn Live>) -> Self {
        let entry = Self::build(spec, object, Some(live));
        Writer::new(entry.store.clone(), None).loaded();
        entry
    }

    fn build(spec: &'static ProviderSpec, object: Value, live: Option<Arc<dyn Live>>) -> Self {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let store = Arc::new(Store::new(spec, &uid));
        Self { uid, spec, object: RwLock::new(Arc::new(object)), store, live }
    }

    /// Returns the provider's UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Returns the table of its collections.
    pub fn spec(&self) -> &'static ProviderSpec {
        self.spec
    }

    /// Returns its records.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the live source, when it is listed live.
    pub fn live_source(&self) -> Option<&Arc<dyn Live>> {
        self.live.as_ref()
    }

    /// Returns the Provider object as last seen.
    pub fn object(&self) -> Arc<Value> {
        self.object.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a newer Provider object.
    pub fn set_object(&self, object: Value) {
        *self.object.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(object);
    }

    /// Returns the Provider's namespace.
    pub fn namespace(&self) -> String {
        self.object()["metadata"]["namespace"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the Provider's name.
    pub fn name(&self) -> String {
        self.object()["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the inventory has parity; returns whether it has.
    pub async fn await_parity(&self, limit: Duration) -> bool {
        if self.store.has_parity() {
            return true;
        }
        let mut parity = self.store.parity();
        let reached = tokio::time::timeout(limit, parity.wait_for(|loaded| *loaded)).await;
        matches!(reached, Ok(Ok(_)))
    }
}

/// The inventory of all providers. Cloning shares it.
#[derive(Clone, Default)]
pub struct Inventory {
    entries: Arc<RwLock<BTreeMap<String, Arc<ProviderEntry>>>>,
    validation: Option<Arc<Validation>>,
    folder: Option<Arc<Folder>>,
}

/// An inventory that may be gone.
pub(crate) struct WeakInventory {
    entries: Weak<RwLock<BTreeMap<String, Arc<ProviderEntry>>>>,
    folder: Option<Arc<Folder>>,
}

impl WeakInventory {
    /// Returns the inventory, without its rules, while somebody else holds it.
    pub fn upgrade(&self) -> Option<Inventory> {
        Some(Inventory { entries: self.entries.upgrade()?, validation: None, folder: self.folder.clone() })
    }
}

impl Inventory {
    /// Returns an empty inventory whose VMs are checked by the rules, when there are any.
    pub fn new(rules: Option<Arc<dyn Rules>>) -> Self {
        Self { entries: Arc::default(), validation: rules.map(Validation::new), folder: None }
    }

    /// Returns the inventory with a folder in which the records are kept for the
    /// next run. Must be called within a runtime.
    #[must_use]
    pub fn kept_in(mut self, folder: PathBuf) -> Self {
        self.folder = Some(Arc::new(Folder::new(folder)));
        self.write_now_and_then();
        self
    }

    pub(crate) fn folder(&self) -> Option<Arc<Folder>> {
        self.folder.clone()
    }

    pub(crate) fn downgrade(&self) -> WeakInventory {
        WeakInventory { entries: Arc::downgrade(&self.entries), folder: self.folder.clone() }
    }

    /// Fills an entry with what the last run knew of its provider; before it is inserted.
    pub async fn restore(&self, entry: &ProviderEntry) {
        let Some(folder) = self.folder() else { return };
        let store = entry.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || folder.load(&store)).await {
            tracing::error!(%error, "reading the last run's inventory panicked");
        }
    }

    /// Adds a provider, in place of an earlier entry of the same UID.
    pub fn insert(&self, entry: ProviderEntry) -> Arc<ProviderEntry> {
        let entry = Arc::new(entry);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(entry.uid.clone(), entry.clone());
        entry
    }

    /// Returns the provider's entry where there is one that suits; else adds this one in its place, unless it is too late
    /// by now: nobody else adds or removes between the question and the answer. `None` when it is too late.
    pub fn enter(
        &self,
        entry: ProviderEntry,
        suits: impl FnOnce(&ProviderEntry) -> bool,
        late: impl FnOnce() -> bool,
    ) -> Option<Arc<ProviderEntry>> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if late() {
            return None;
        }
        match entries.get(&entry.uid).filter(|known| suits(known)) {
            Some(known) => Some(known.clone()),
            None => {
                let entry = Arc::new(entry);
                entries.insert(entry.uid.clone(), entry.clone());
                Some(entry)
            }
        }
    }

    /// Returns the writer for an entry's collector.
    pub fn writer(&self, entry: &ProviderEntry) -> Writer {
        Writer::shared(entry.store.clone(), self.validation.clone())
    }

    /// Removes a provider, and what is kept of it.
    pub fn remove(&self, uid: &str) -> Option<Arc<ProviderEntry>> {
        if let Some(folder) = &self.folder {
            folder.forget(uid);
        }
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }

    /// Returns a provider by its UID.
    pub fn get(&self, uid: &str) -> Option<Arc<ProviderEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Returns a provider by namespace and name.
    pub fn find_provider(&self, namespace: &str, name: &str) -> Option<Arc<ProviderEntry>> {
        self.list().into_iter().find(|e| e.namespace() == namespace && e.name() == name)
    }

    /// Returns all providers, by namespace and name.
    pub fn list(&self) -> Vec<Arc<ProviderEntry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = entries.values().cloned().collect();
        drop(entries);
        list.sort_by_cached_key(|e| (e.namespace(), e.name()));
        list
    }

    /// Has all VMs judged again that other rules have seen; for when the rules changed. Returns at once.
    pub fn revalidate(&self) {
        if let Some(validation) = &self.validation {
            for entry in self.list() {
                validation.sweep(&entry.store);
            }
        }
    }
}
