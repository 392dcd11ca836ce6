//! What every reconciler is given: the client, the caches, the queues, the providers and the settings.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use forklift_api::Settings;
use forklift_core::plan::PlanFacts;
use forklift_core::plan::schedule::{Queued, to_start};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Api, Client};

use crate::caches::{Caches, Queues};
use crate::host::DirectHosts;
use crate::plan::memory::PlanMemory;
use crate::plan::preferences::Preferences;
use crate::ports::Providers;
use crate::provider::Collectors;
use crate::shell::leader::LeaderConfig;
use crate::worker::WorkerClient;

/// How the controllers run.
#[derive(Clone)]
pub struct ControllerConfig {
    /// The namespace that the project lives in; servers of providers are made there.
    pub namespace: String,
    /// The providers.
    pub providers: Arc<dyn Providers>,
    /// Limits, times, images and switches.
    pub settings: Settings,
    /// Bytes a second that each importer may copy.
    pub bandwidth: Option<u64>,
    /// Leader election; `None` when there is only one controller.
    pub leader: Option<LeaderConfig>,
    /// Counters and gauges.
    pub metrics: Arc<crate::metrics::Metrics>,
}

impl ControllerConfig {
    /// Returns a configuration for one controller without metrics of its own.
    pub fn new(namespace: impl Into<String>, providers: Arc<dyn Providers>, settings: Settings) -> Self {
        Self {
            namespace: namespace.into(),
            providers,
            settings,
            bandwidth: None,
            leader: None,
            metrics: Arc::default(),
        }
    }
}

/// What every reconciler is given.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// How the controllers run.
    pub config: ControllerConfig,
    /// The shared caches.
    pub caches: Caches,
    /// The work queues, to be fed.
    pub queues: Queues,
    /// The running collectors.
    pub collectors: Collectors,
    /// What is remembered of hosts that are reached directly.
    pub hosts: DirectHosts,
    /// What was seen of the target's preferences.
    pub preferences: Preferences,
    /// Pods that are asked for their progress.
    pub workers: WorkerClient,
    /// What is remembered of plans between two passes; losing it costs time only.
    plans: Mutex<HashMap<String, Arc<PlanMemory>>>,
    /// What runs, by the UID of its source provider, by the UID of its plan, by host.
    slots: Mutex<HashMap<String, HashMap<String, BTreeMap<String, u32>>>>,
}

impl Context {
    /// Puts the parts together.
    pub fn new(client: Client, config: ControllerConfig, caches: Caches, queues: Queues) -> Self {
        Self {
            client,
            config,
            caches,
            queues,
            collectors: Collectors::default(),
            hosts: DirectHosts::default(),
            preferences: Preferences::default(),
            workers: WorkerClient::default(),
            plans: Mutex::default(),
            slots: Mutex::default(),
        }
    }

    /// Returns the providers.
    pub fn providers(&self) -> &dyn Providers {
        self.config.providers.as_ref()
    }

    /// Returns what is remembered of a plan.
    pub fn plan_memory(&self, uid: &str) -> Arc<PlanMemory> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets a plan.
    pub fn forget_plan(&self, uid: &str) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.release_slots(uid);
    }

    /// Takes places for VMs of a plan, beside those that run; returns the ids of those that may start. Several plans may
    /// ask at a time: they share what their source can bear.
    pub fn take_slots(
        &self,
        plan: &PlanFacts,
        running: BTreeMap<String, u32>,
        queue: &[Queued],
        max: u32,
    ) -> Vec<String> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = slots.entry(plan.provider.uid.clone()).or_default();
        // After a start of the controllers, plans that did not ask yet are counted by what their status says.
        for other in self.caches.plans.state() {
            let uid = other.metadata.uid.clone().unwrap_or_default();
            let same_source = self
                .caches
                .provider(&other.spec.provider.source)
                .is_some_and(|source| source.metadata.uid.as_deref() == Some(plan.provider.uid.as_str()));
            if same_source && uid != plan.uid && !of_source.contains_key(&uid) {
                let vms = other.status.iter().flat_map(|status| &status.migration.vms);
                let count = u32::try_from(vms.filter(|vm| vm.timed.is_running()).count()).unwrap_or(u32::MAX);
                of_source.insert(uid, BTreeMap::from([(String::new(), count)]));
            }
        }
        let mut mine = running.clone();
        let mut in_flight = running;
        for (host, count) in of_source.iter().filter(|(uid, _)| **uid != plan.uid).flat_map(|(_, hosts)| hosts) {
            *in_flight.entry(host.clone()).or_default() += count;
        }
        let started = to_start(queue, &in_flight, max);
        for queued in queue.iter().filter(|queued| started.contains(&queued.id)) {
            *mine.entry(queued.host.clone()).or_default() += queued.cost;
        }
        of_source.insert(plan.uid.clone(), mine);
        started
    }

    /// Gives the places of a plan back.
    pub fn release_slots(&self, plan_uid: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values_mut().for_each(|of_source| drop(of_source.insert(plan_uid.to_owned(), BTreeMap::new())));
    }

    /// Reads a secret; `None` when it does not exist.
    pub async fn secret(&self, reference: &ObjectReference) -> Result<Option<Secret>, kube::Error> {
        let (Some(namespace), Some(name)) = (&reference.namespace, &reference.name) else { return Ok(None) };
        Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(name).await
    }
}

/// Returns the decoded data of a secret.
pub fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

/// Whether a reference names something.
pub fn is_set(reference: &ObjectReference) -> bool {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    given(&reference.name) && given(&reference.namespace)
}
