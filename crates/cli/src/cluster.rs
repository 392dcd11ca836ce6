//! The cluster of the kubeconfig, seen as objects in JSON.

use anyhow::Context;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::Global;

/// Group of our objects.
pub const GROUP: &str = "forklift.konveyor.io";
/// Version of our objects.
pub const VERSION: &str = "v1beta1";
/// `apiVersion` of our objects.
pub const API_VERSION: &str = "forklift.konveyor.io/v1beta1";

/// A connection with the user's credentials.
pub struct Cluster {
    pub client: kube::Client,
    pub config: kube::Config,
    /// Namespace of the command: `-n`, else the context's, else `default`.
    pub namespace: String,
    /// `-A`: list all namespaces.
    pub all: bool,
    pub global: Global,
}

impl Cluster {
    /// Connects with the kubeconfig that the options name.
    pub async fn connect(global: &Global) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
        let config = match &global.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path)
                    .with_context(|| format!("failed to read the kubeconfig {}", path.display()))?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .context("failed to use the kubeconfig")?
            }
            None => match kube::Config::from_kubeconfig(&options).await {
                Ok(config) => config,
                Err(error) => kube::Config::incluster()
                    .map_err(|_| error)
                    .context("failed to find a cluster: set KUBECONFIG or --kubeconfig")?,
            },
        };
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config.clone()).context("failed to connect to the cluster")?;
        Ok(Cluster { client, config, namespace, all: global.all_namespaces, global: global.clone() })
    }

    fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        // the one plural of ours that is not the kind with an s
        ApiResource::from_gvk_with_plural(&gvk, &format!("{}s", kind.to_lowercase()))
    }

    /// Returns the client for a kind of ours in a namespace.
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &Self::resource(GROUP, VERSION, kind))
    }

    /// Returns the client for any kind in a namespace.
    pub fn api_of(&self, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &Self::resource(group, version, kind))
    }

    /// Lists a kind of ours in the command's namespace, or in all of them.
    pub async fn list(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let api: Api<DynamicObject> = if self.all {
            Api::all_with(self.client.clone(), &Self::resource(GROUP, VERSION, kind))
        } else {
            self.api(kind, &self.namespace)
        };
        let list = api
            .list(&ListParams::default())
            .await
            .map_err(plain)
            .with_context(|| format!("failed to list {kind} objects"))?;
        let mut items = list.items.into_iter().map(|item| complete(item, kind)).collect::<Result<Vec<_>, _>>()?;
        items.sort_by_key(|item| (item["metadata"]["namespace"].to_string(), item["metadata"]["name"].to_string()));
        Ok(items)
    }

    /// Reads an object of ours; absent is an error that names it.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Value> {
        let object = self.api(kind, namespace).get(name).await.map_err(plain);
        let object = object
            .with_context(|| format!("failed to get {} '{name}' in namespace '{namespace}'", kind.to_lowercase()))?;
        complete(object, kind)
    }

    /// Reads an object of ours, if it is there.
    pub async fn find(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let object = self.api(kind, namespace).get_opt(name).await.map_err(plain);
        object
            .with_context(|| format!("failed to get {} '{name}'", kind.to_lowercase()))?
            .map(|object| complete(object, kind))
            .transpose()
    }

    /// Creates an object; its `apiVersion`, `kind` and namespace are read from it.
    pub async fn create(&self, object: &Value) -> anyhow::Result<Value> {
        let (version, kind) =
            (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&self.namespace);
        let name =
            object["metadata"]["name"].as_str().or(object["metadata"]["generateName"].as_str()).unwrap_or_default();
        let body: DynamicObject = serde_json::from_value(object.clone())
            .with_context(|| format!("failed to write {} '{name}'", kind.to_lowercase()))?;
        let made =
            self.api_of(group, version, kind, namespace).create(&PostParams::default(), &body).await.map_err(plain);
        let made = made.with_context(|| format!("failed to create {} '{name}'", kind.to_lowercase()))?;
        Ok(serde_json::to_value(made)?)
    }

    /// Changes an object of ours by a merge patch.
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: &Value) -> anyhow::Result<Value> {
        let made =
            self.api(kind, namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(plain);
        let made = made.with_context(|| format!("failed to patch {} '{name}'", kind.to_lowercase()))?;
        complete(made, kind)
    }

    /// Deletes an object of ours.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<()> {
        let deleted = self.api(kind, namespace).delete(name, &DeleteParams::default()).await.map_err(plain);
        deleted.with_context(|| format!("failed to delete {} '{name}'", kind.to_lowercase()))?;
        Ok(())
    }
}

/// Says what the server said, without the client's wrapping.
fn plain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
        other => other.into(),
    }
}

/// List items carry neither kind nor version.
fn complete(object: DynamicObject, kind: &str) -> anyhow::Result<Value> {
    let mut value = serde_json::json!({"apiVersion": API_VERSION, "kind": kind});
    if let (Value::Object(to), Value::Object(from)) = (&mut value, serde_json::to_value(object)?) {
        to.extend(from.into_iter().filter(|(key, value)| !(value.is_null() || key == "types")));
    }
    Ok(value)
}
