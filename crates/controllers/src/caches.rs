//! The shared caches and the wiring between them and the work queues: which change makes which object be looked at.
//!
//! ```text
//! Provider ─► maps, plans, server, hosts    maps, hooks ─► plans    Migration ─► its plan
//! Secret ─► the providers and hosts that name it
//! Plan ─► its migrations             children (label `plan-name`) ─► their plan
//! OVAProviderServer ─► its provider  pods (label `conversion`, `ova-server`) ─► their owner
//! ```
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use forklift_api::condition::types;
use forklift_api::{
    Conversion, Hook, Host, Migration, NetworkMap, OVAProviderServer, Plan, Provider, StorageMap, labels,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Config;
use kube::{Api, Client, CustomResource, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::shell::queue::{Queue, Work};
use crate::shell::watch::{Change, notice, watch};

/// The slice of KubeVirt's VirtualMachine that is watched: whose it is, its addresses, and how it does. Everything else
/// would only fill the memory, with thousands of VMs.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    namespaced,
    status = "VirtualMachineStatus",
    schema = "disabled"
)]
#[serde(default)]
pub struct VirtualMachineSpec {
    template: Template,
}

/// The slice of a VirtualMachine's status that is watched.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineStatus {
    /// `Running`, `Stopped`, `Provisioning` …
    pub printable_status: String,
    /// Whether it can be used.
    pub ready: bool,
}

macro_rules! slices {
    ($($name:ident { $field:ident: $type:ty }),+ $(,)?) => {$(
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(rename_all = "camelCase", default)]
        struct $name { $field: $type }
    )+};
}
slices! {
    Template { spec: TemplateSpec },
    TemplateSpec { domain: Domain },
    Domain { devices: Devices },
    Devices { interfaces: Vec<Interface> },
    Interface { mac_address: String },
}

impl VirtualMachine {
    /// Returns the MAC addresses that are set.
    pub fn macs(&self) -> impl Iterator<Item = &str> {
        let interfaces = &self.spec.template.spec.domain.devices.interfaces;
        interfaces.iter().map(|interface| interface.mac_address.as_str()).filter(|mac| !mac.is_empty())
    }
}

macro_rules! caches {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),+ $(,)?) => {
        /// One reader per kind.
        #[derive(Clone)]
        pub struct Caches { $($(#[$doc])* pub $name: Store<$kind>),+ }

        impl Caches {
            /// Waits until every cache that must be there was filled once.
            pub async fn ready(&self, patience: Duration) -> bool {
                let all = async { $(if Self::required(stringify!($name)) && self.$name.wait_until_ready().await.is_err() {
                    return false;
                })+ true };
                tokio::time::timeout(patience, all).await.unwrap_or(false)
            }
        }
    };
}
caches! {
    /// Providers.
    providers: Provider,
    /// Servers of OVA providers.
    servers: OVAProviderServer,
    /// Hosts that are reached directly.
    hosts: Host,
    /// Network maps.
    network_maps: NetworkMap,
    /// Storage maps.
    storage_maps: StorageMap,
    /// Hooks.
    hooks: Hook,
    /// Plans.
    plans: Plan,
    /// Migrations.
    migrations: Migration,
    /// Conversions.
    conversions: Conversion,
    /// Namespaces.
    namespaces: Namespace,
    /// Storage classes.
    storage_classes: StorageClass,
    /// Pods of plans.
    pods: Pod,
    /// Pods of provider servers.
    server_pods: Pod,
    /// Jobs of plans.
    jobs: Job,
    /// Claims of plans.
    claims: PersistentVolumeClaim,
    /// Volumes of plans.
    volumes: PersistentVolume,
    /// Secrets of plans.
    secrets: Secret,
    /// Config maps of plans.
    config_maps: ConfigMap,
    /// All VMs: those that plans made, and those whose names and addresses are taken.
    machines: VirtualMachine,
}

impl Caches {
    /// Without KubeVirt there are no VMs to watch: plans say so, nothing else has to wait.
    fn required(name: &str) -> bool {
        name != "machines"
    }

    /// Returns a provider.
    pub fn provider(&self, reference: &ObjectReference) -> Option<std::sync::Arc<Provider>> {
        named(&self.providers, reference)
    }
}

/// Returns the object that a reference names.
pub fn named<K>(store: &Store<K>, reference: &ObjectReference) -> Option<std::sync::Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let name = reference.name.as_deref()?;
    store.get(&ObjectRef::new(name).within(reference.namespace.as_deref()?))
}

/// An object that is gone, as it was last seen.
pub enum Gone {
    /// A plan; its objects may be left.
    Plan(Box<Plan>),
    /// A provider; its collector may run.
    Provider(Box<Provider>),
    /// A host; disks may be read from it directly.
    Host(Box<Host>),
}

/// The sending sides of all work queues.
#[derive(Clone)]
pub struct Queues {
    /// Providers.
    pub providers: Queue<Provider>,
    /// Servers of OVA providers.
    pub servers: Queue<OVAProviderServer>,
    /// Hosts that are reached directly.
    pub hosts: Queue<Host>,
    /// Network maps.
    pub network_maps: Queue<NetworkMap>,
    /// Storage maps.
    pub storage_maps: Queue<StorageMap>,
    /// Hooks.
    pub hooks: Queue<Hook>,
    /// Plans.
    pub plans: Queue<Plan>,
    /// Migrations.
    pub migrations: Queue<Migration>,
    /// Conversions.
    pub conversions: Queue<Conversion>,
    /// What is gone and may have left something.
    pub gone: tokio::sync::mpsc::UnboundedSender<Gone>,
}

/// The receiving sides of all work queues.
pub struct Works {
    /// Providers.
    pub providers: Work<Provider>,
    /// Servers of OVA providers.
    pub servers: Work<OVAProviderServer>,
    /// Hosts that are reached directly.
    pub hosts: Work<Host>,
    /// Network maps.
    pub network_maps: Work<NetworkMap>,
    /// Storage maps.
    pub storage_maps: Work<StorageMap>,
    /// Hooks.
    pub hooks: Work<Hook>,
    /// Plans.
    pub plans: Work<Plan>,
    /// Migrations.
    pub migrations: Work<Migration>,
    /// Conversions.
    pub conversions: Work<Conversion>,
    /// What is gone.
    pub gone: tokio::sync::mpsc::UnboundedReceiver<Gone>,
}

/// Makes the work queues.
pub fn queues() -> (Queues, Works) {
    let (providers, providers_work) = Queue::new();
    let (servers, servers_work) = Queue::new();
    let (hosts, hosts_work) = Queue::new();
    let (network_maps, network_maps_work) = Queue::new();
    let (storage_maps, storage_maps_work) = Queue::new();
    let (hooks, hooks_work) = Queue::new();
    let (plans, plans_work) = Queue::new();
    let (migrations, migrations_work) = Queue::new();
    let (conversions, conversions_work) = Queue::new();
    let (gone, gone_work) = tokio::sync::mpsc::unbounded_channel();
    (
        Queues { providers, servers, hosts, network_maps, storage_maps, hooks, plans, migrations, conversions, gone },
        Works {
            providers: providers_work,
            servers: servers_work,
            hosts: hosts_work,
            network_maps: network_maps_work,
            storage_maps: storage_maps_work,
            hooks: hooks_work,
            plans: plans_work,
            migrations: migrations_work,
            conversions: conversions_work,
            gone: gone_work,
        },
    )
}

/// Opens all watches.
pub fn open(client: &Client, queues: &Queues, cancel: &CancellationToken) -> Caches {
    let all = |labels: Option<&str>| labels.map_or_else(Config::default, |labels| Config::default().labels(labels));
    let of_plans = || all(Some(labels::PLAN));

    // Plans, maps and servers are watched before providers, so that a provider's change finds who uses it.
    let q = queues.clone();
    let plans = watch(Api::<Plan>::all(client.clone()), all(None), cancel.clone(), move |change| match change {
        Change::Deleted(plan) => {
            let _ = q.gone.send(Gone::Plan(Box::new(plan.clone())));
        }
        Change::Listed(plan) => push(&q.plans, plan),
        Change::Applied(plan) => {
            if let Some(run) = plan.status.as_ref().and_then(|status| status.migration.active_snapshot()) {
                q.migrations.push(&run.migration.namespace, &run.migration.name);
            }
            // an annotation is no new generation; somebody who asks for a removal shall not have to wait
            let asks = crate::plan::stale::wanted(plan)
                && plan.status.as_ref().is_some_and(|status| status.conditions.has(types::STALE_SNAPSHOTS));
            if asks || changed(plan, plan.status.as_ref().map(|status| status.observed_generation)) {
                push(&q.plans, plan);
            }
        }
    });

    let q = queues.clone();
    let migrations = watch(Api::<Migration>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let migration = change.object();
        let fresh = changed(migration, migration.status.as_ref().map(|status| status.observed_generation));
        if fresh || !matches!(change, Change::Applied(_)) {
            push(&q.migrations, migration);
            let plan = &migration.spec.plan;
            if let (Some(namespace), Some(name)) = (&plan.namespace, &plan.name) {
                q.plans.push(namespace, name);
            }
        }
    });

    let q = queues.clone();
    let users = plans.clone();
    let network_maps = watch(Api::<NetworkMap>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let map = change.object();
        push_if_changed(&q.network_maps, &change, map.status.as_ref().map(|status| status.observed_generation));
        push_users(&users, &q.plans, |plan| refers(&plan.spec.map.network, map));
    });
    let q = queues.clone();
    let users = plans.clone();
    let storage_maps = watch(Api::<StorageMap>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let map = change.object();
        push_if_changed(&q.storage_maps, &change, map.status.as_ref().map(|status| status.observed_generation));
        push_users(&users, &q.plans, |plan| refers(&plan.spec.map.storage, map));
    });
    let q = queues.clone();
    let users = plans.clone();
    let hooks = watch(Api::<Hook>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let hook = change.object();
        push_if_changed(&q.hooks, &change, hook.status.as_ref().map(|status| status.observed_generation));
        push_users(&users, &q.plans, |plan| {
            plan.spec.vms.iter().flat_map(|vm| &vm.hooks).any(|used| refers(&used.hook, hook))
        });
    });
    let q = queues.clone();
    let servers = watch(Api::<OVAProviderServer>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let server = change.object();
        push_if_changed(&q.servers, &change, server.status.as_ref().and(server.metadata.generation));
        let provider = &server.spec.provider;
        if let (Some(namespace), Some(name)) = (&provider.namespace, &provider.name) {
            q.providers.push(namespace, name);
        }
    });
    let q = queues.clone();
    let hosts = watch(Api::<Host>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let host = change.object();
        push_if_changed(&q.hosts, &change, host.status.as_ref().map(|status| status.observed_generation));
        if matches!(change, Change::Deleted(_)) {
            let _ = q.gone.send(Gone::Host(Box::new(host.clone())));
        }
    });
    let q = queues.clone();
    let (net, stor, users, of_provider) = (network_maps.clone(), storage_maps.clone(), plans.clone(), servers.clone());
    let direct = hosts.clone();
    let providers = watch(Api::<Provider>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let provider = change.object();
        push_if_changed(&q.providers, &change, provider.status.as_ref().map(|status| status.observed_generation));
        if matches!(change, Change::Deleted(_)) {
            let _ = q.gone.send(Gone::Provider(Box::new(provider.clone())));
        }
        let in_pair = |pair: &forklift_api::provider::ProviderPair| {
            refers(&pair.source, provider) || refers(&pair.destination, provider)
        };
        push_users(&net, &q.network_maps, |map| in_pair(&map.spec.provider));
        push_users(&stor, &q.storage_maps, |map| in_pair(&map.spec.provider));
        push_users(&users, &q.plans, |plan| in_pair(&plan.spec.provider));
        push_users(&of_provider, &q.servers, |server| refers(&server.spec.provider, provider));
        push_users(&direct, &q.hosts, |host| refers(&host.spec.provider, provider));
    });
    // New credentials are taken up at once, and refused ones wait for nothing else.
    let q = queues.clone();
    let (owners, direct) = (providers.clone(), hosts.clone());
    notice(Api::<PartialObjectMeta<Secret>>::all(client.clone()), all(None), cancel.clone(), move |secret| {
        push_users(&owners, &q.providers, |provider| refers(&provider.spec.secret, secret));
        push_users(&direct, &q.hosts, |host| refers(&host.spec.secret, secret));
    });

    let q = queues.clone();
    let conversions = watch(Api::<Conversion>::all(client.clone()), all(None), cancel.clone(), move |change| {
        let conversion = change.object();
        push_if_changed(&q.conversions, &change, conversion.status.as_ref().map(|status| status.observed_generation));
        push_plan(&q, conversion.labels());
    });
    let q = queues.clone();
    let pods = watch(Api::<Pod>::all(client.clone()), of_plans(), cancel.clone(), move |change| {
        let pod = change.object();
        push_owner(&q.conversions, "Conversion", pod, labels_namespace(pod.labels()));
        push_plan(&q, pod.labels());
    });
    let q = queues.clone();
    let server_pods = watch(
        Api::<Pod>::all(client.clone()),
        all(Some(&format!("{}={}", labels::SERVER_SUBAPP, labels::SUBAPP_OVA_SERVER))),
        cancel.clone(),
        move |change| push_owner(&q.servers, "OVAProviderServer", change.object(), None),
    );
    // Standalone conversions have no plan; their pods are found by name, this watch only says when to look.
    let q = queues.clone();
    let _ = watch(
        Api::<Pod>::all(client.clone()),
        all(Some(&format!("{},!{}", labels::CONVERSION, labels::PLAN))),
        cancel.clone(),
        move |change| push_owner(&q.conversions, "Conversion", change.object(), None),
    );

    Caches {
        providers,
        servers,
        hosts,
        network_maps,
        storage_maps,
        hooks,
        plans,
        migrations,
        conversions,
        pods,
        server_pods,
        namespaces: watch(Api::all(client.clone()), all(None), cancel.clone(), |_: Change<'_, Namespace>| {}),
        storage_classes: watch(Api::all(client.clone()), all(None), cancel.clone(), |_: Change<'_, StorageClass>| {}),
        jobs: children::<Job>(client, queues, cancel),
        claims: children::<PersistentVolumeClaim>(client, queues, cancel),
        volumes: children::<PersistentVolume>(client, queues, cancel),
        secrets: children::<Secret>(client, queues, cancel),
        config_maps: children::<ConfigMap>(client, queues, cancel),
        machines: related::<VirtualMachine>(client, Config::default(), queues, cancel),
    }
}

/// Watches a kind of children: what carries the label `plan`.
fn children<K>(client: &Client, queues: &Queues, cancel: &CancellationToken) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    related(client, Config::default().labels(labels::PLAN), queues, cancel)
}

/// Watches a kind; what carries a plan's labels brings the plan's next pass.
fn related<K>(client: &Client, config: Config, queues: &Queues, cancel: &CancellationToken) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let q = queues.clone();
    watch(Api::<K>::all(client.clone()), config, cancel.clone(), move |change| {
        // What exists at the start makes nobody run: its plan is listed too.
        if !matches!(change, Change::Listed(_)) {
            push_plan(&q, change.object().meta().labels.as_ref().unwrap_or(&BTreeMap::new()));
        }
    })
}

/// Whether the spec is not the one that the status is about, or the object is being deleted.
fn changed<K: Resource>(object: &K, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) != object.meta().generation.unwrap_or(0) || object.meta().deletion_timestamp.is_some()
}

fn push<K: Resource<DynamicType = ()>>(queue: &Queue<K>, object: &K) {
    queue.push(&object.namespace().unwrap_or_default(), &object.name_any());
}

fn push_if_changed<K: Resource<DynamicType = ()>>(queue: &Queue<K>, change: &Change<'_, K>, observed: Option<i64>) {
    match change {
        Change::Listed(object) => push(queue, *object),
        Change::Applied(object) if changed(*object, observed) => push(queue, *object),
        Change::Applied(_) | Change::Deleted(_) => {}
    }
}

fn push_users<K>(store: &Store<K>, queue: &Queue<K>, uses: impl Fn(&K) -> bool)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    for user in store.state().iter().filter(|user| uses(user)) {
        push(queue, user.as_ref());
    }
}

fn push_plan(queues: &Queues, labels: &BTreeMap<String, String>) {
    if let (Some(namespace), Some(name)) = (labels.get(labels::PLAN_NAMESPACE), labels.get(labels::PLAN_NAME)) {
        queues.plans.push(namespace, name);
    }
}

fn labels_namespace(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(labels::PLAN_NAMESPACE).map(String::as_str)
}

/// Asks for a run on the owner of a pod; owners in another namespace are named by the label of their kind.
fn push_owner<K: Resource<DynamicType = ()>>(queue: &Queue<K>, kind: &str, pod: &Pod, namespace: Option<&str>) {
    let own = pod.namespace().unwrap_or_default();
    let owner = pod.owner_references().iter().find(|owner| owner.kind == kind).map(|owner| owner.name.clone());
    let name = owner.or_else(|| pod.labels().get(labels::CONVERSION).cloned());
    if let Some(name) = name {
        queue.push(namespace.unwrap_or(&own), &name);
    }
}

/// Whether a reference names this object.
pub fn refers<K: Resource>(reference: &ObjectReference, object: &K) -> bool {
    reference.name == object.meta().name && reference.namespace == object.meta().namespace
}
