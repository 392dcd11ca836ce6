//! The controllers with their real providers and inventory, over a simulated vCenter.
//!
//! ```text
//! test ─► API server ─► controllers ─► Registry ─► SOAP ─► vcsim ◄─ control door ◄─ test
//! ```
//! [`Live::raises`] waits for a condition and looks whether all that the object says is in [`crate::table`], with its
//! category: what nobody has listed fails whatever test meets it.
mod changes;
mod disks;
mod guests;
mod hosts;
mod login;
mod machines;
mod network;
mod providers;
mod target;
mod vddk;
mod webhooks;

use std::path::Path;
use std::sync::Arc;

use forklift_api::plan::{PlanMap, PlanSpec, PlanVM};
use forklift_api::provider::ProviderSpec;
use forklift_api::{NetworkMap, Plan, Provider, Ref, StorageMap};
use forklift_controllers::ports::Providers;
use forklift_controllers::rules::Concerns;
use forklift_core::machine::Machine;
use forklift_inventory::Inventory;
use forklift_providers::{Context, Registry};
use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_validation::Validator;
use kube::api::{Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NS, TARGET, condition, has, pair, provider, reference};
use crate::table;

/// A cluster, a vCenter, and what lies between.
pub struct Live {
    pub cluster: Cluster,
    pub vcenter: Vcenter,
    pub registry: Registry,
    folder: tempfile::TempDir,
}

/// Methods that change something at the source; nothing may have called them where a plan was refused.
const CHANGES: [&str; 7] = [
    "CreateSnapshot_Task",
    "CreateSnapshotEx_Task",
    "RemoveSnapshot_Task",
    "PowerOffVM_Task",
    "ShutdownGuest",
    "ReconfigVM_Task",
    "ExportVm",
];

/// Machines of these names that run, with tools.
pub fn named(names: &[&str]) -> Options {
    Options { vms: 0, names: names.iter().map(|name| (*name).to_owned()).collect(), ..Options::default() }
}

fn registry(client: &Client, folder: &Path) -> Registry {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let inventory = Inventory::new(Some(Arc::new(Concerns(Validator::new())))).kept_in(folder.join("inventory"));
    let context = Context { client: client.clone(), config: None, namespace: NS.into(), shared: Default::default() };
    Registry::new(inventory, context)
}

impl Live {
    /// Starts it; nothing where the simulator cannot be built.
    pub async fn start(options: Options) -> Option<Self> {
        let vcenter = tokio::task::spawn_blocking(|| Vcenter::start(options)).await.expect("it starts")?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut made = None;
        let cluster = Cluster::start_with(|client, _| {
            let registry = registry(client, folder.path());
            made = Some(registry.clone());
            Arc::new(registry)
        })
        .await;
        let live = Live { cluster, vcenter, registry: made.expect("it was made"), folder };
        live.secret("credentials", &[]).await;
        Some(live)
    }

    /// Starts it with the providers `src` and `host`, both ready.
    pub async fn ready(options: Options) -> Option<Self> {
        let live = Self::start(options).await?;
        network::namespace(&live.cluster.client, TARGET, json!({})).await;
        live.cluster.create(live.provider("src")).await;
        live.cluster.create(provider("host", "openshift", "")).await;
        for name in ["src", "host"] {
            live.cluster.until(name, |provider: Option<&Provider>| has(provider, "Ready")).await;
        }
        Some(live)
    }

    /// Ends the controllers and what they know in memory, and starts them anew, as after an update.
    pub async fn restart(&mut self) {
        self.cluster.stop_controllers().await;
        self.registry.inventory().save().await;
        self.registry.release().await;
        self.registry = registry(&self.cluster.client, self.folder.path());
        self.cluster.providers = Arc::new(self.registry.clone()) as Arc<dyn Providers>;
        self.cluster.run_controllers();
    }

    /// Writes the vCenter's credentials into a secret; `other` keys replace them.
    pub async fn secret(&self, name: &str, other: &[(&str, &str)]) {
        let vcenter = &self.vcenter;
        let mut data = vec![("user", vcenter.user()), ("password", vcenter.password()), ("cacert", vcenter.ca())];
        data.retain(|(key, _)| !other.iter().any(|(known, _)| known == key));
        data.extend(other);
        self.cluster.secret(name, &data).await;
    }

    /// Returns a provider of the vCenter, with the credentials of the secret `credentials`.
    pub fn provider(&self, name: &str) -> Provider {
        provider(name, "vsphere", self.vcenter.url())
    }

    /// The same with settings.
    pub fn provider_with(&self, name: &str, settings: &[(&str, &str)]) -> Provider {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let spec = ProviderSpec {
            type_: "vsphere".into(),
            url: self.vcenter.url().into(),
            secret: reference("credentials"),
            settings,
        };
        Provider::new(name, spec)
    }

    /// Changes the spec of an object.
    pub async fn change<K>(&self, name: &str, spec: Value)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.cluster.api::<K>().patch(name, &PatchParams::default(), &patch).await.expect("is changed");
    }

    /// Waits until an object raises a condition, and looks whether all that it says is listed.
    pub async fn raises<K>(&self, name: &str, type_: &str, reason: &str) -> Value
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        let kind = K::kind(&()).into_owned();
        let (wanted, why) = (type_.to_owned(), reason.to_owned());
        let holds = move |object: Option<&K>| find(object, &wanted, &why).is_some();
        let object = self.cluster.until(name, holds).await;
        table::audit(&kind, &object);
        let found = find(Some(&object), type_, reason).unwrap_or_default();
        let categories = table::categories(&kind, type_, reason);
        assert!(categories.iter().any(|category| found["category"] == *category), "{categories:?}: {found:#}");
        found
    }

    /// Returns a machine of the inventory as plans see it.
    pub async fn machine(&self, name: &str) -> Machine {
        let provider = self.cluster.api::<Provider>().get("src").await.expect("it is there");
        let id = self.vcenter.machine(name).expect("it is there")["id"].as_str().unwrap_or_default().to_owned();
        let source = self.registry.source(&provider).expect("a source");
        source.machine(&id).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Makes maps `all` of the networks and datastores of these machines.
    pub async fn map(&self, machines: &[&str]) {
        let (mut networks, mut stores) = (Vec::new(), Vec::new());
        for name in machines {
            let machine = self.machine(name).await;
            networks.extend(machine.nics.iter().map(|nic| nic.network.id.clone()));
            stores.extend(machine.disks.iter().map(|disk| disk.storage.id.clone()));
        }
        for list in [&mut networks, &mut stores] {
            list.sort();
            list.dedup();
        }
        let rows: Vec<Value> =
            networks.iter().map(|id| json!({"source": {"id": id}, "destination": {"type": "pod"}})).collect();
        let map = json!({"provider": pair(), "map": rows});
        self.cluster.create(NetworkMap::new("all", serde_json::from_value(map).expect("a spec"))).await;
        let rows: Vec<Value> = stores
            .iter()
            .map(|id| json!({"source": {"id": id}, "destination": {"storageClass": "standard"}}))
            .collect();
        let map = json!({"provider": pair(), "map": rows});
        self.cluster.create(StorageMap::new("all", serde_json::from_value(map).expect("a spec"))).await;
        self.cluster.until("all", |map: Option<&NetworkMap>| has(map, "Ready")).await;
        self.cluster.until("all", |map: Option<&StorageMap>| has(map, "Ready")).await;
    }

    /// Makes a plan for machines, by their names, over the maps `all`.
    pub async fn plan(&self, name: &str, machines: &[&str], change: impl FnOnce(&mut PlanSpec)) {
        let vm =
            |name: &&str| PlanVM { reference: Ref { name: (*name).to_owned(), ..Ref::default() }, ..PlanVM::default() };
        let mut spec = PlanSpec {
            target_namespace: TARGET.into(),
            provider: pair(),
            map: PlanMap { network: reference("all"), storage: reference("all") },
            vms: machines.iter().map(vm).collect(),
            preserve_static_ips: false,
            ..PlanSpec::default()
        };
        change(&mut spec);
        self.cluster.create(Plan::new(name, spec)).await;
    }

    /// Waits until the inventory has a machine as it should be; the plans that it is in are looked at by themselves.
    pub async fn knows(&self, machine: &str, holds: impl Fn(&Machine) -> bool) {
        self.cluster.eventually(machine, || async { holds(&self.machine(machine).await) }).await;
    }

    /// Has a plan looked at now, for what changed on the target; one that is ready waits for half a minute else.
    pub async fn again(&self, plan: &str) {
        let moment = jiff::Timestamp::now().to_string();
        self.change::<Plan>(plan, json!({"description": moment})).await;
    }

    /// Waits until a plan is ready, and lacks a condition.
    pub async fn accepts(&self, plan: &str, lacks: &str) {
        let lacks = lacks.to_owned();
        let fine = move |plan: Option<&Plan>| has(plan, "Ready") && !has(plan, &lacks);
        let plan = self.cluster.until(plan, fine).await;
        table::audit("Plan", &plan);
    }

    /// Asks for a migration of a plan that is not ready: the migration says so, and nothing was done at the source.
    pub async fn refuses(&self, plan: &str) {
        let spec = json!({"plan": {"name": plan, "namespace": NS}});
        let migration = forklift_api::Migration::new(plan, serde_json::from_value(spec).expect("a spec"));
        self.cluster.create(migration).await;
        self.cluster.raises::<forklift_api::Migration>(plan, "PlanNotReady", "NotFound").await;
        self.untouched();
        let plan = self.cluster.api::<Plan>().get(plan).await.expect("it is there");
        assert!(!has(Some(&plan), "Ready") && !has(Some(&plan), "Executing"), "{plan:#?}");
        // it would begin as soon as the plan is ready
        let name = kube::ResourceExt::name_any(&plan);
        let migrations = self.cluster.api::<forklift_api::Migration>();
        migrations.delete(&name, &crate::cluster::background()).await.expect("is deleted");
        self.cluster
            .eventually("it is gone", || async { migrations.get_opt(&name).await.is_ok_and(|m| m.is_none()) })
            .await;
    }

    /// Asserts that nothing at the source was changed since the calls were counted.
    pub fn untouched(&self) {
        let calls = self.vcenter.calls().expect("counters");
        let changes: Vec<_> = CHANGES.iter().filter(|method| calls.of(method) > 0).collect();
        assert!(changes.is_empty(), "{changes:?}: {:?}", calls.methods());
    }

    /// Forgets what was called so far.
    pub fn count_anew(&self) {
        self.vcenter.reset_calls().expect("counters");
    }
}

/// Returns a condition that holds for this reason; of a type that has a VM's id behind it, the first one.
fn find<K: serde::Serialize>(object: Option<&K>, type_: &str, reason: &str) -> Option<Value> {
    let object = serde_json::to_value(object?).ok()?;
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let fits = |c: &Value| {
        table::is_of(c["type"].as_str().unwrap_or_default(), type_)
            && c["status"] == "True"
            && c["reason"].as_str().unwrap_or_default() == reason
    };
    conditions.into_iter().find(fits)
}

/// Returns the items of a condition.
pub fn items(condition: &Value) -> Vec<String> {
    serde_json::from_value(condition["items"].clone()).unwrap_or_default()
}

/// Whether a plan has a condition now.
pub fn says(plan: &Plan, type_: &str) -> bool {
    condition(Some(plan), type_).is_some()
}
