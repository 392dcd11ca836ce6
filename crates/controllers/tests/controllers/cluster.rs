//! The embedded API server in this process, controllers, a source and a node that are made up.

use std::sync::Arc;
use std::time::Duration;

use forklift_api::plan::{PlanMap, PlanSpec, PlanVM};
use forklift_api::provider::{ProviderPair, ProviderSpec};
use forklift_api::{Hook, Migration, NetworkMap, Plan, Provider, Ref, Settings, StorageMap};
use forklift_controllers::ControllerConfig;
use forklift_controllers::ports::Providers;
use forklift_controllers::webhook::{self, Webhooks};
use k8s_openapi::api::core::v1::{Namespace, ObjectReference, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kubelet::Fate;
use crate::source::FakeSource;

/// Namespace of our objects.
pub const NS: &str = "konveyor-forklift";
/// Namespace of the VMs.
pub const TARGET: &str = "vms";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A cluster with everything that a plan needs.
pub struct Cluster {
    pub client: Client,
    pub source: FakeSource,
    pub fate: Fate,
    /// What the controllers are started with.
    pub providers: Arc<dyn Providers>,
    stop: CancellationToken,
    controllers: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    server: apiserver::Handle,
    _directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts it with a source that is made up.
    pub async fn start() -> Self {
        Self::start_with(|_, source| Arc::new(source.clone())).await
    }

    /// Starts it with the providers that this makes.
    pub async fn start_with(providers: impl FnOnce(&Client, &FakeSource) -> Arc<dyn Providers>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = apiserver::start(apiserver::Config::new(directory.path())).await.expect("the API server starts");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&server.kubeconfig()).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a configuration");
        let client = Client::try_from(config).expect("a client");
        prepare(&client).await;
        let (source, fate) = (FakeSource::default(), Fate::default());
        crate::kubelet::start(client.clone(), fate.clone());
        let providers = providers(&client, &source);
        let mut cluster = Self {
            client,
            source,
            fate,
            providers,
            stop: CancellationToken::new(),
            controllers: None,
            server,
            _directory: directory,
        };
        cluster.run_controllers();
        cluster
    }

    /// Starts the controllers.
    pub fn run_controllers(&mut self) {
        self.run_controllers_with(&[]);
    }

    /// Starts the controllers with settings other than the defaults.
    pub fn run_controllers_with(&mut self, settings: &[(&str, &str)]) {
        self.stop = CancellationToken::new();
        let value =
            |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let settings = Settings::read(value).expect("settings");
        let config = ControllerConfig::new(NS, self.providers.clone(), settings);
        let run = forklift_controllers::run(self.client.clone(), config, self.stop.clone());
        self.controllers = Some(tokio::spawn(run));
    }

    /// Stops the controllers and waits until they have.
    pub async fn stop_controllers(&mut self) {
        self.stop.cancel();
        if let Some(controllers) = self.controllers.take() {
            controllers.await.expect("no panic").expect("no error");
        }
    }

    /// Serves the webhooks and registers them.
    pub async fn run_webhooks(&self) {
        let names = ["127.0.0.1".to_owned()];
        let (cert, key) = self.server.issue_certificate(&names).expect("a certificate");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let hooks = Webhooks { client: self.client.clone(), providers: self.providers.clone() };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            forklift_controllers::tls::serve(listener, &cert, &key, webhook::router(hooks), stop).await
        });
        let reach = webhook::Reach::Url(format!("https://{address}"));
        webhook::register(&self.client, &reach, self.server.ca_pem()).await.expect("they are registered");
    }

    /// Returns a client with the rights of a service account of our namespace, which has these rights there.
    pub async fn user(&self, name: &str, rules: Value) -> Client {
        let post = |kind: &str, object: Value| {
            let (group, version) =
                if kind == "ServiceAccount" { ("", "v1") } else { ("rbac.authorization.k8s.io", "v1") };
            let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind));
            let api: Api<kube::api::DynamicObject> = Api::namespaced_with(self.client.clone(), NS, &resource);
            async move {
                let object = serde_json::from_value(object).expect("an object");
                api.create(&PostParams::default(), &object).await.expect("is created");
            }
        };
        post("ServiceAccount", json!({"metadata": {"name": name}})).await;
        post("Role", json!({"metadata": {"name": name}, "rules": rules})).await;
        post(
            "RoleBinding",
            json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NS}],
            }),
        )
        .await;
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&self.server.kubeconfig()).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a configuration");
        let mut config = config;
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{NS}:{name}"));
        Client::try_from(config).expect("a client")
    }

    /// Returns the API of a kind in our namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NS)
    }

    /// Creates an object in our namespace.
    pub async fn create<K>(&self, object: K) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        self.api::<K>().create(&PostParams::default(), &object).await.expect("is created")
    }

    /// Waits until an object is as it should be; says how it is when it takes too long.
    pub async fn until<K>(&self, name: &str, condition: impl Condition<K>) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        let api = self.api::<K>();
        match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
            Ok(Ok(Some(object))) => object,
            Ok(other) => panic!("{name}: {other:?}"),
            Err(_) => {
                let now = api.get(name).await.map(|object| serde_json::to_string_pretty(&object).unwrap_or_default());
                panic!(
                    "{name} did not become what it should within {PATIENCE:?}: {}",
                    now.unwrap_or_else(|e| e.to_string())
                )
            }
        }
    }

    /// Waits until an object has a condition that holds for this reason; returns the condition.
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
        let (wanted, why) = (type_.to_owned(), reason.to_owned());
        let holds = move |object: Option<&K>| {
            condition(object, &wanted)
                .is_some_and(|c| c["status"] == "True" && c["reason"].as_str().unwrap_or_default() == why)
        };
        let object = self.until(name, holds).await;
        condition(Some(&object), type_).unwrap_or_default()
    }

    /// Waits until an object of ours has been looked at in its present form, and lacks a condition.
    pub async fn lacks<K>(&self, name: &str, type_: &str)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        let unwanted = type_.to_owned();
        self.until(name, move |object: Option<&K>| object.is_some() && !has(object, &unwanted)).await;
    }

    /// Makes or replaces a secret in our namespace.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let params = kube::api::PatchParams::apply("test").force();
        let patch = kube::api::Patch::Apply(&secret);
        self.api::<Secret>().patch(name, &params, &patch).await.expect("is written");
    }

    /// Waits until something that can only be asked for is so.
    pub async fn eventually<F, Fut>(&self, what: &str, mut holds: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            tick.tick().await;
        }
    }

    /// Creates providers, maps, and a plan named `plan` for these VMs, and waits until it is ready.
    pub async fn plan(&self, vms: &[&str]) -> Plan {
        self.draft(vms).await;
        self.until("plan", |plan: Option<&Plan>| has(plan, "Ready")).await
    }

    /// Creates providers, maps, and a plan named `plan` for these VMs.
    pub async fn draft(&self, vms: &[&str]) {
        self.create(provider("src", "vsphere", "https://vcenter.example/sdk")).await;
        self.create(provider("host", "openshift", "")).await;
        self.create(network_map("net", "net", "pod")).await;
        self.create(storage_map("stor", "ds", "standard")).await;
        let vm = |id: &&str| PlanVM { reference: Ref::by_id(*id), ..PlanVM::default() };
        let spec = PlanSpec {
            target_namespace: TARGET.into(),
            provider: pair(),
            map: PlanMap { network: reference("net"), storage: reference("stor") },
            vms: vms.iter().map(vm).collect(),
            ..PlanSpec::default()
        };
        self.create(Plan::new("plan", spec)).await;
    }

    /// Starts a migration of the plan.
    pub async fn migrate(&self, name: &str) -> Migration {
        let spec = serde_json::from_value(json!({"plan": {"name": "plan", "namespace": NS}})).expect("a spec");
        self.create(Migration::new(name, spec)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns a reference to an object in our namespace.
pub fn reference(name: &str) -> ObjectReference {
    ObjectReference { name: Some(name.into()), namespace: Some(NS.into()), ..ObjectReference::default() }
}

/// Returns the providers of all maps and plans.
pub fn pair() -> ProviderPair {
    ProviderPair { source: reference("src"), destination: reference("host") }
}

/// Returns a provider.
pub fn provider(name: &str, type_: &str, url: &str) -> Provider {
    Provider::new(
        name,
        ProviderSpec {
            type_: type_.into(),
            url: url.into(),
            secret: reference("credentials"),
            ..ProviderSpec::default()
        },
    )
}

/// Returns a network map with one row.
pub fn network_map(name: &str, source: &str, destination: &str) -> NetworkMap {
    let destination = match destination.split_once('/') {
        Some((namespace, name)) => json!({"type": "multus", "namespace": namespace, "name": name}),
        None => json!({"type": destination}),
    };
    let row = json!([{"source": {"name": source}, "destination": destination}]);
    NetworkMap::new(name, serde_json::from_value(json!({"provider": pair(), "map": row})).expect("a spec"))
}

/// Returns a storage map with one row.
pub fn storage_map(name: &str, source: &str, class: &str) -> StorageMap {
    let row = json!([{"source": {"name": source}, "destination": {"storageClass": class}}]);
    StorageMap::new(name, serde_json::from_value(json!({"provider": pair(), "map": row})).expect("a spec"))
}

/// Returns a hook.
pub fn hook(name: &str, spec: Value) -> Hook {
    Hook::new(name, serde_json::from_value(spec).expect("a spec"))
}

/// Whether an object carries a condition that holds.
pub fn has<K: serde::Serialize>(object: Option<&K>, type_: &str) -> bool {
    condition(object, type_).is_some_and(|condition| condition["status"] == "True")
}

/// Returns a condition of an object.
pub fn condition<K: serde::Serialize>(object: Option<&K>, type_: &str) -> Option<Value> {
    let object = serde_json::to_value(object?).ok()?;
    let conditions = object["status"]["conditions"].as_array()?.clone();
    conditions.into_iter().find(|condition| condition["type"] == type_)
}

async fn prepare(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut all = forklift_api::crds();
    all.push(virtual_machines());
    for crd in &all {
        crds.create(&PostParams::default(), crd).await.expect("a CRD is installed");
    }
    for crd in &all {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let established = kube::runtime::conditions::is_crd_established();
        tokio::time::timeout(PATIENCE, await_condition(crds.clone(), &name, established))
            .await
            .expect("in time")
            .expect("is established");
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": NS}})).expect("a namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("is created");
    let classes: Api<StorageClass> = Api::all(client.clone());
    let class = json!({
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "fake",
    });
    let class = serde_json::from_value(class).expect("a class");
    classes.create(&PostParams::default(), &class).await.expect("is created");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NS);
    let secret = serde_json::from_value(json!({"metadata": {"name": "credentials"}})).expect("a secret");
    secrets.create(&PostParams::default(), &secret).await.expect("is created");
}

/// Installs a kind of somebody else, `group/version`; whatever is in its objects is taken.
pub async fn install(client: &Client, api_version: &str, kind: &str, plural: &str, scope: &str) {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let (group, version) = api_version.split_once('/').expect("a group and a version");
    let name = format!("{plural}.{group}");
    let crd = json!({
        "metadata": {"name": name},
        "spec": {
            "group": group, "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": any}}],
        },
    });
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.create(&PostParams::default(), &serde_json::from_value(crd).expect("a CRD")).await.expect("is installed");
    await_condition(crds, &name, kube::runtime::conditions::is_crd_established()).await.expect("is established");
}

fn virtual_machines() -> CustomResourceDefinition {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({
        "metadata": {"name": "virtualmachines.kubevirt.io"},
        "spec": {
            "group": "kubevirt.io", "scope": "Namespaced",
            "names": {"kind": "VirtualMachine", "plural": "virtualmachines", "singular": "virtualmachine", "listKind": "VirtualMachineList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": any}}],
        },
    }))
    .expect("a CRD")
}

/// Deletes in the background.
pub fn background() -> DeleteParams {
    DeleteParams::background()
}
