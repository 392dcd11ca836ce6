//! All providers behind one door, over one inventory.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use forklift_api::{Condition, Provider, ProviderType, Ref};
use forklift_core::source::{Capabilities, InspectionSnapshots, Source, SourceError};
use forklift_inventory::{FindError, Inventory, News, ProviderEntry, Record, Reference};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    ConnectError, Context, Endpoint, Examination, HostEndpoint, HostError, HostFacts, Opened, ProviderKind, Thing, kind,
};

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

/// What a look-up of a host gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundHost {
    /// The host.
    One(HostFacts),
    /// Nothing of this id or name, or no hosts at all.
    None,
    /// Several of this name.
    Many,
    /// The inventory is not complete: nobody knows yet.
    NotLoaded,
}

/// How long the source may take for VMs that are read anew, and the rules to judge them: in any case, and for each VM.
const FRESH: (Duration, Duration) = (Duration::from_secs(20), Duration::from_millis(200));

/// What changed in a provider's inventory within a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// More changed than could be told: anything may be another.
    pub all: bool,
    /// Ids of what changed, whatever it is.
    pub ids: HashSet<Arc<str>>,
    /// Names of VMs that changed, came or went; the old ones too.
    pub vms: HashSet<Arc<str>>,
    /// References to networks may lead elsewhere.
    pub networks: bool,
    /// References to storage may lead elsewhere.
    pub storage: bool,
}

impl Changed {
    fn of(kind: &dyn ProviderKind, news: News) -> Self {
        let mut changed = Self {
            all: news.all,
            networks: news.renames(kind.collection(Thing::Network)),
            storage: news.renames(kind.collection(Thing::Storage)),
            ..Self::default()
        };
        let vms = kind.collection(Thing::Vm);
        for (name, touched) in news.kinds {
            changed.ids.extend(touched.ids);
            if name == vms {
                changed.vms = touched.names;
            }
        }
        changed
    }

    /// Returns whether this changes what a reference to a VM leads to.
    pub fn names(&self, vm: &Ref) -> bool {
        // a path ends with the name
        let name = || vm.name.rsplit('/').next().unwrap_or_default();
        let by_name = || self.vms.contains(name()) || self.vms.contains(vm.name.as_str());
        self.all || if vm.id.is_empty() { by_name() } else { self.ids.contains(vm.id.as_str()) }
    }
}

/// The hosts that are reached directly: by the UID of their provider, by their id.
type DirectHosts = BTreeMap<String, BTreeMap<String, HostEndpoint>>;

/// The providers of one inventory.
#[derive(Clone)]
pub struct Registry {
    inventory: Inventory,
    context: Context,
    direct: Arc<RwLock<DirectHosts>>,
    /// How each provider was reached last, by its UID.
    endpoints: Arc<RwLock<BTreeMap<String, Endpoint>>>,
}

impl Registry {
    /// Returns a registry over an inventory.
    pub fn new(inventory: Inventory, context: Context) -> Self {
        Self { inventory, context, direct: Arc::default(), endpoints: Arc::default() }
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

    /// Logs in by a connection secret, for an inspection that takes its own snapshot. What the secret leads to is what
    /// can be inspected at its source.
    pub async fn inspection(
        &self,
        connection: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Arc<dyn InspectionSnapshots>, SourceError> {
        for provider_type in ProviderType::ALL {
            if let Some(kind) = kind(*provider_type)
                && let Some(found) = kind.inspection(connection).await
            {
                return found;
            }
        }
        Err(SourceError::Denied("no provider's VMs are inspected at their source".to_owned()))
    }

    /// Returns what is wrong with the settings and the secret.
    pub fn check(&self, endpoint: &Endpoint) -> Vec<Condition> {
        supported(&endpoint.provider).map(|kind| kind.check(endpoint)).unwrap_or_default()
    }

    /// Tests the connection, and looks at what migrations will need.
    pub async fn examine(&self, endpoint: &Endpoint) -> Result<Examination, ConnectError> {
        supported(&endpoint.provider)?.examine(endpoint, &self.context).await
    }

    /// Returns whether sources of a type have hosts that can be reached directly.
    pub fn has_hosts(&self, provider_type: ProviderType) -> bool {
        kind(provider_type).is_some_and(|kind| kind.hosts().is_some())
    }

    /// Finds a host by its reference.
    pub async fn host(&self, provider: &Provider, reference: &Ref) -> FoundHost {
        let Ok(Some(hosts)) = supported(provider).map(ProviderKind::hosts) else { return FoundHost::None };
        let Some(entry) = self.entry(provider) else { return FoundHost::NotLoaded };
        let (id, name) = (reference.id.as_str(), reference.name.as_str());
        match entry.find(hosts.collection(), Reference { id: Some(id), name: Some(name), namespace: None }).await {
            Ok(record) => FoundHost::One(hosts.facts(&record)),
            Err(FindError::NotFound { .. }) => FoundHost::None,
            Err(FindError::Ambiguous { .. }) => FoundHost::Many,
            Err(FindError::NotReady { .. } | FindError::Unreachable { .. }) => FoundHost::NotLoaded,
        }
    }

    /// Logs in to a host and out again.
    pub async fn test_host(&self, provider: &Provider, host: &HostEndpoint) -> Result<(), HostError> {
        let kind = supported(provider).map_err(|error| HostError::Failed(error.to_string()))?;
        let none = || HostError::Failed(format!("provider {} has no hosts that are reached directly", name(provider)));
        kind.hosts().ok_or_else(none)?.test(host).await
    }

    /// Says how a host is reached directly from now on; `None` for not at all.
    pub fn set_direct(&self, provider_uid: &str, id: &str, host: Option<HostEndpoint>) {
        let mut direct = self.direct.write().unwrap_or_else(PoisonError::into_inner);
        let hosts = direct.entry(provider_uid.to_owned()).or_default();
        match host {
            Some(host) => drop(hosts.insert(id.to_owned(), host)),
            None => drop(hosts.remove(id)),
        }
        if hosts.is_empty() {
            direct.remove(provider_uid);
        }
    }

    /// Returns how a host is reached directly, when there is a Host object that is ready.
    pub fn direct(&self, provider_uid: &str, id: &str) -> Option<HostEndpoint> {
        self.direct.read().unwrap_or_else(PoisonError::into_inner).get(provider_uid)?.get(id).cloned()
    }

    /// Fills the provider's inventory and keeps it current until `cancel`. What
    /// an earlier run collected stays until it is found to be gone; to begin
    /// with nothing, [`Registry::forget`] it first. One at a time for a provider:
    /// the next one begins when the one before has ended.
    pub async fn collect(&self, endpoint: Endpoint, cancel: CancellationToken) -> Result<(), ConnectError> {
        let kind = supported(&endpoint.provider)?;
        if cancel.is_cancelled() {
            return Ok(());
        }
        self.remember(&endpoint);
        let object = serde_json::to_value(&*endpoint.provider)
            .map_err(|e| ConnectError::Failed(format!("the Provider cannot be shown: {e}")))?;
        let late = || cancel.is_cancelled();
        match kind.open(&endpoint, &self.context)? {
            Opened::Live(live) => {
                self.inventory.enter(ProviderEntry::live(kind.spec(), object, live), |_| false, late);
                cancel.cancelled().await;
                Ok(())
            }
            Opened::Collected(collector) => {
                let suits =
                    |entry: &ProviderEntry| std::ptr::eq(entry.spec(), kind.spec()) && entry.live_source().is_none();
                let entry = match self.entry(&endpoint.provider).filter(|entry| suits(entry)) {
                    Some(entry) => entry,
                    None => {
                        let entry = ProviderEntry::collected(kind.spec(), object.clone());
                        self.inventory.restore(&entry).await;
                        // Reading took a while. A collector that was cancelled meanwhile must not put its entry in the
                        // place of its successor's: nobody would fill the one that everybody sees.
                        let Some(entry) = self.inventory.enter(entry, suits, late) else { return Ok(()) };
                        entry
                    }
                };
                entry.set_object(object);
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

    /// Drops a provider's inventory, and its session.
    pub fn forget(&self, provider: &Provider) {
        self.inventory.remove(uid(provider));
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).remove(uid(provider));
        self.context.shared.forget(uid(provider));
    }

    /// Ends the sessions with all sources, before the program ends.
    pub async fn release(&self) {
        self.context.shared.release().await;
    }

    /// Returns the source of a provider: its settings as they are now, the credentials that its inventory is read with.
    pub fn source(&self, provider: &Provider) -> Result<Arc<dyn Source>, SourceError> {
        let kind = supported(provider).map_err(|e| SourceError::Other(e.to_string()))?;
        let entry = self.entry(provider).ok_or_else(|| SourceError::NotReady(name(provider).to_owned()))?;
        let refused = || SourceError::Other(format!("provider {} can only be a destination", name(provider)));
        let known = self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(uid(provider)).cloned();
        let known = known.ok_or_else(|| SourceError::NotReady(name(provider).to_owned()))?;
        let hosts = self.direct.read().unwrap_or_else(PoisonError::into_inner).get(uid(provider)).cloned();
        let endpoint = Endpoint { provider: Arc::new(provider.clone()), hosts: hosts.unwrap_or_default(), ..known };
        kind.source(entry, &endpoint, &self.context).ok_or_else(refused)
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
                found.id = record.id.to_string();
                found.name = record.name.to_string();
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

    /// Returns what changes in a provider's inventory from now on; ends with that inventory. `None` while there is none
    /// that is complete, and for sources that are listed live.
    pub fn changes(&self, provider: &Provider) -> Option<BoxStream<'static, Changed>> {
        let kind = supported(provider).ok()?;
        let entry = self.entry(provider).filter(|entry| entry.live_source().is_none() && entry.store().has_parity())?;
        let feed = entry.store().feed();
        let next = move |mut feed: forklift_inventory::Feed| async move {
            let news = feed.next().await?;
            Some((Changed::of(kind, news), feed))
        };
        Some(stream::unfold(feed, next).boxed())
    }

    /// Has VMs read at the source, and judged by the rules, before somebody acts on what the inventory says of them.
    ///
    /// # Errors
    /// Why that is not to be had now, in words for users.
    pub async fn fresh(&self, provider: &Provider, ids: &[String]) -> Result<(), String> {
        let kind = supported(provider).map_err(|error| error.to_string())?;
        let entry = self.entry(provider).ok_or_else(|| format!("the inventory of {} is not loaded", name(provider)))?;
        if entry.live_source().is_some() {
            return Ok(());
        }
        let limit = FRESH.0 + FRESH.1.saturating_mul(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        entry.store().refresh(ids.to_vec(), limit).await?;
        let judged = async {
            for id in ids {
                entry.store().settled(kind.collection(Thing::Vm), id, limit).await;
            }
        };
        // rules that cannot be evaluated keep nobody waiting: the records say that they were not seen
        let _ = tokio::time::timeout(FRESH.0, judged).await;
        Ok(())
    }

    /// Returns a VM's workload document, as hooks and rules get it.
    pub fn workload(&self, provider: &Provider, id: &str) -> Option<Value> {
        let entry = self.entry(provider)?;
        let record = entry.store().get(entry.spec().workloads?, id)?;
        entry.store().workload(&record).ok()
    }

    fn remember(&self, endpoint: &Endpoint) {
        let mut endpoints = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        endpoints.insert(uid(&endpoint.provider).to_owned(), endpoint.clone());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forklift_api::provider::ProviderSpec;

    use super::*;

    /// A vSphere provider at a port where nobody listens.
    fn endpoint(password: &str) -> Endpoint {
        let url = "https://127.0.0.1:1/sdk".to_owned();
        let spec = ProviderSpec { type_: "vsphere".into(), url, ..ProviderSpec::default() };
        let mut provider = Provider::new("vc", spec);
        provider.metadata.uid = Some("u-1".into());
        let secret = [("user", "u"), ("password", password), ("insecureSkipVerify", "true")];
        let secret = secret.into_iter().map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect();
        Endpoint { provider: Arc::new(provider), secret, server: None, hosts: BTreeMap::new() }
    }

    async fn registry(folder: &std::path::Path) -> Registry {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("an address"));
        let client = kube::Client::try_from(config).expect("a client");
        let context = Context { client, config: None, namespace: "n".into(), shared: Default::default() };
        Registry::new(Inventory::new(None).kept_in(folder.to_owned()), context)
    }

    /// A secret that changes just after its provider was made starts two collectors, one after the other. Once the first
    /// one put its store in the place of the second one's, and the provider was loading for ever.
    #[test]
    fn a_collector_that_is_late_takes_nobodys_place() {
        // one thread for files: what is asked for first is answered first
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let registry = registry(folder.path()).await;
            let (old, new) = (CancellationToken::new(), CancellationToken::new());
            let second = tokio::spawn({
                let (registry, new) = (registry.clone(), new.clone());
                async move { registry.collect(endpoint("new"), new).await }
            });
            let first = tokio::spawn({
                let (registry, old) = (registry.clone(), old.clone());
                async move { registry.collect(endpoint("old"), old).await }
            });
            // both have asked for the file by now, and nobody has had an answer
            tokio::task::yield_now().await;
            old.cancel();
            first.await.expect("no panic").expect("it was cancelled");
            let provider = endpoint("new").provider;
            let told = async {
                while registry.failure(&provider).is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let told = tokio::time::timeout(Duration::from_secs(20), told).await;
            assert!(told.is_ok(), "what the collector that runs finds is not what is shown");
            new.cancel();
            second.await.expect("no panic").expect("it was cancelled");
        });
    }

    #[tokio::test]
    async fn a_provider_that_was_forgotten_does_not_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = registry(folder.path()).await;
        let cancel = CancellationToken::new();
        let collecting = registry.collect(endpoint("p"), cancel.clone());
        tokio::pin!(collecting);
        // it waits for the file of the last run
        assert!(futures::poll!(&mut collecting).is_pending());
        cancel.cancel();
        registry.forget(&endpoint("p").provider);
        collecting.await.expect("it was cancelled");
        assert!(registry.inventory().list().is_empty());
    }
}
