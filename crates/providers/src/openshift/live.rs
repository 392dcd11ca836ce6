//! The cluster, listed at each request.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use forklift_inventory::{Live, LiveError, LiveQuery, Record, level};
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use super::SPEC;
use super::model::{INSTANCES, ObjectKind, full, is_unsupported_udn, node, objects, record};
use crate::ConnectError;

/// Whose rights are used.
pub(super) enum Access {
    /// The provider's own token.
    Own(kube::Client),
    /// The caller's, on our own cluster and in one namespace.
    Caller {
        /// How our cluster is reached.
        config: Option<Box<kube::Config>>,
        /// The provider's namespace.
        namespace: String,
    },
}

/// A cluster.
pub(super) struct Cluster {
    access: Access,
    uid: String,
}

/// Networks that restricted providers see besides their own.
const SHARED_NAMESPACE: &str = "default";

impl Cluster {
    pub(super) fn new(access: Access, uid: String) -> Self {
        Self { access, uid }
    }

    fn client(&self, token: Option<&str>) -> Result<kube::Client, String> {
        match &self.access {
            Access::Own(client) => Ok(client.clone()),
            Access::Caller { config, .. } => {
                let mut config =
                    *config.clone().ok_or("this provider needs the caller's rights, which are not set up")?;
                let token = token.ok_or("this provider needs the caller's token")?;
                config.auth_info =
                    serde_json::from_value(serde_json::json!({"token": token})).map_err(|e| e.to_string())?;
                kube::Client::try_from(config).map_err(|e| e.to_string())
            }
        }
    }

    /// Returns the namespaces to list; `None` is all, an empty list is nothing that the provider may show.
    fn namespaces<'a>(&'a self, kind: &ObjectKind, asked: Option<&'a str>) -> Vec<Option<&'a str>> {
        let Access::Caller { namespace, .. } = &self.access else {
            return vec![asked];
        };
        if !kind.namespaced {
            return vec![None];
        }
        let mut allowed = vec![namespace.as_str()];
        if kind.collection == "networkattachmentdefinitions" && namespace != SHARED_NAMESPACE {
            allowed.push(SHARED_NAMESPACE);
        }
        match asked {
            None => allowed.into_iter().map(Some).collect(),
            Some(asked) => allowed.into_iter().filter(|a| *a == asked).map(Some).collect(),
        }
    }

    async fn objects(&self, query: LiveQuery<'_>) -> Result<Vec<DynamicObject>, LiveError> {
        let failed = |message: String| LiveError { kind: query.kind.to_owned(), message };
        let kind = objects(query.kind).ok_or_else(|| failed("there is no such collection".to_owned()))?;
        let client = self.client(query.token).map_err(failed)?;
        if let (Access::Caller { namespace, .. }, "namespaces") = (&self.access, query.kind) {
            // the caller may not be allowed to list them, but may read the own one
            let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
            return api.get(namespace).await.map(|n| vec![n]).map_err(|e| failed(e.to_string()));
        }
        let mut list = Vec::new();
        for namespace in self.namespaces(kind, query.namespace) {
            let parameters = match query.name {
                Some(name) => ListParams::default().fields(&format!("metadata.name={name}")),
                None => ListParams::default(),
            };
            let found = list_objects(&client, kind, namespace, parameters).await;
            list.extend(found.map_err(|e| failed(e.to_string()))?);
        }
        if query.kind == "networkattachmentdefinitions" {
            list.retain(|definition| !is_unsupported_udn(definition));
        }
        Ok(list)
    }

    /// The running instances by namespace and name; without the right to see them, VMs are shown alone.
    async fn instances(&self, query: LiveQuery<'_>) -> HashMap<(Option<String>, Option<String>), DynamicObject> {
        let found = self.objects(LiveQuery { kind: INSTANCES, ..query }).await;
        let found = found.inspect_err(|error| tracing::debug!(%error, "VMs are shown without their instances"));
        let key = |o: DynamicObject| ((o.metadata.namespace.clone(), o.metadata.name.clone()), o);
        found.unwrap_or_default().into_iter().map(key).collect()
    }

    async fn namespace_tree(&self, detail: i64, token: Option<&str>) -> Result<Value, LiveError> {
        let query = |kind| LiveQuery { kind, token, ..LiveQuery::default() };
        let vms = self.list(query("vms")).await?;
        let used: BTreeSet<&str> = vms.iter().filter_map(|vm| full(vm)["namespace"].as_str()).collect();
        let spec = SPEC.kind("vms");
        let mut children = Vec::new();
        for namespace in self.list(query("namespaces")).await? {
            if !used.contains(&*namespace.name) {
                continue;
            }
            let branch = vms.iter().filter(|vm| full(vm)["namespace"].as_str() == Some(&namespace.name)).map(|vm| {
                let mut object = full(vm).clone();
                object["path"] = format!("{}/{}", namespace.name, vm.id).into();
                let shown = spec.map_or(object.clone(), |s| level(s, &object, detail));
                node("VM", shown, Value::Null)
            });
            let mut object = full(&namespace).clone();
            object["path"] = (*namespace.name).into();
            children.push(node("Namespace", object, branch.collect()));
        }
        let children = if children.is_empty() { Value::Null } else { children.into() };
        Ok(node("", Value::Null, children))
    }
}

#[async_trait]
impl Live for Cluster {
    async fn list(&self, query: LiveQuery<'_>) -> Result<Vec<Arc<Record>>, LiveError> {
        let objects = self.objects(query).await?;
        let instances = if query.kind == "vms" { self.instances(query).await } else { HashMap::new() };
        let show = |object: &DynamicObject| {
            let instance = instances.get(&(object.metadata.namespace.clone(), object.metadata.name.clone()));
            record(&self.uid, query.kind, object, instance)
        };
        Ok(objects.iter().map(show).collect())
    }

    async fn tree(&self, name: &str, detail: i64, token: Option<&str>) -> Option<Result<Value, LiveError>> {
        match name {
            "namespace" => Some(self.namespace_tree(detail, token).await),
            _ => None,
        }
    }
}

/// Lists objects in pages; a kind that the cluster does not serve has none.
async fn list_objects(
    client: &kube::Client,
    kind: &ObjectKind,
    namespace: Option<&str>,
    parameters: ListParams,
) -> Result<Vec<DynamicObject>, kube::Error> {
    let resource = kind.resource();
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let mut parameters = parameters.limit(500);
    let mut list = Vec::new();
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(list),
            Err(error) => return Err(error),
        };
        list.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(list),
        }
    }
}

/// Tests whether the cluster answers and has what a destination needs.
pub(super) async fn test(client: &kube::Client) -> Result<(), ConnectError> {
    for collection in ["namespaces", "storageclasses", "vms"] {
        let Some(kind) = objects(collection) else {
            continue;
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(ConnectError::Failed(format!(
                    "the cluster serves no {collection}: install KubeVirt on it"
                )));
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 401) => {
                return Err(ConnectError::Auth(format!("the cluster refuses the token: {}", status.message)));
            }
            Err(error) => {
                return Err(ConnectError::Failed(format!("cannot list {collection}: {error}")));
            }
        }
    }
    Ok(())
}

/// Reads a kubeconfig that is complete in itself.
pub(super) fn config(kubeconfig: kube::config::Kubeconfig) -> Result<kube::Config, kube::config::KubeconfigError> {
    let options = kube::config::KubeConfigOptions::default();
    // nothing in it is read from elsewhere, so this never waits
    futures::executor::block_on(kube::Config::from_custom_kubeconfig(kubeconfig, &options))
}
