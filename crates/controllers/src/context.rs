//! What every reconciler is given: the client, the caches, the queues, the providers and the settings.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use forklift_api::Settings;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Api, Client};

use crate::caches::{Caches, Queues};
use crate::plan::memory::PlanMemory;
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
    /// Pods that are asked for their progress.
    pub workers: WorkerClient,
    /// What is remembered of plans between two passes; losing it costs time only.
    plans: Mutex<HashMap<String, Arc<PlanMemory>>>,
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
            workers: WorkerClient::default(),
            plans: Mutex::default(),
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
