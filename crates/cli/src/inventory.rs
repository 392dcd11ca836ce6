//! The inventory service, asked with the kubeconfig's credentials.

use anyhow::{Context, bail};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::condition;

/// Namespaces where an installation may be, in the order they are looked at.
const NAMESPACES: [&str; 2] = ["konveyor-forklift", "openshift-mtv"];

/// A provider in the inventory.
pub struct Inventory {
    client: kube::Client,
    /// `providers/<type>/<uid>`
    base: String,
    /// Name of the provider, for messages.
    pub name: String,
    /// Type of the provider.
    pub kind: String,
}

impl Inventory {
    /// Opens the inventory of a provider, which must be ready.
    pub async fn open(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let provider = cluster.get("Provider", namespace, name).await?;
        if !condition::is_true(&provider, "Ready") {
            let reason =
                condition::find(&provider, "Ready").map(|ready| ready["message"].to_string()).unwrap_or_default();
            let blockers = condition::blockers(&provider);
            bail!(
                "provider '{namespace}/{name}' is not ready{}",
                if blockers.is_empty() { reason } else { format!(": {}", blockers.join("; ")) }
            );
        }
        let kind = provider["spec"]["type"].as_str().unwrap_or_default().to_owned();
        let uid = provider["metadata"]["uid"].as_str().unwrap_or_default();
        Ok(Inventory {
            client: connect(cluster).await?,
            base: format!("/providers/{kind}/{uid}"),
            name: name.into(),
            kind,
        })
    }

    /// Returns the name that this type of provider gives the collection of its storages.
    pub fn storages(&self) -> &'static str {
        match self.kind.as_str() {
            "openshift" => "storageclasses",
            "vsphere" => "datastores",
            "ovirt" => "storagedomains",
            "openstack" => "volumetypes",
            _ => "storages",
        }
    }

    /// Returns a collection with all its details.
    pub async fn list(&self, collection: &str) -> anyhow::Result<Vec<Value>> {
        let value = fetch(&self.client, &format!("{}/{collection}?detail=4", self.base)).await;
        match value.with_context(|| format!("failed to get {collection} of provider '{}'", self.name))? {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            other => bail!("the inventory's {collection} are not a list: {other}"),
        }
    }
}

/// Returns the inventory's view of all providers, by uid.
pub async fn providers(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let client = connect(cluster).await?;
    let value = fetch(&client, "/providers?detail=1").await?;
    let lists = value.as_object().into_iter().flat_map(|map| map.values());
    Ok(lists.filter_map(Value::as_array).flatten().cloned().collect())
}

async fn fetch(client: &kube::Client, path: &str) -> anyhow::Result<Value> {
    let request = http::Request::get(path).header("accept", "application/json").body(Vec::new())?;
    let text = client.request_text(request).await.map_err(|error| match error {
        kube::Error::Api(status) => anyhow::anyhow!("HTTP {}: {}", status.code, status.message),
        other => other.into(),
    })?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).context("the inventory's answer is not JSON")
}

/// Returns a client for the inventory: the cluster's credentials and authority at another address.
async fn connect(cluster: &Cluster) -> anyhow::Result<kube::Client> {
    let url = match &cluster.global.inventory_url {
        Some(url) => url.clone(),
        None => discover(cluster).await?,
    };
    let mut config = cluster.config.clone();
    config.cluster_url =
        url.trim_end_matches('/').parse().with_context(|| format!("'{url}' is not a URL: see --inventory-url"))?;
    config.tls_server_name = None;
    if cluster.global.inventory_insecure_skip_tls {
        config.accept_invalid_certs = true;
        config.root_cert = None;
    }
    kube::Client::try_from(config).context("failed to connect to the inventory")
}

/// Finds the inventory: an OpenShift Route, else the Service where its address can be reached from here.
async fn discover(cluster: &Cluster) -> anyhow::Result<String> {
    let selector = ListParams::default().labels("app=forklift,service=forklift-inventory");
    let namespaces = || NAMESPACES.into_iter().chain([cluster.namespace.as_str()]);
    for namespace in namespaces() {
        let gvk = GroupVersionKind::gvk("route.openshift.io", "v1", "Route");
        let routes: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), namespace, &ApiResource::from_gvk(&gvk));
        let Ok(list) = routes.list(&selector).await else { continue };
        if let Some(host) = list.items.iter().find_map(|route| route.data["spec"]["host"].as_str()) {
            return Ok(format!("https://{host}"));
        }
    }
    for namespace in namespaces() {
        let service = cluster.api_of("", "v1", "Service", namespace).get_opt("forklift-inventory").await;
        let Ok(Some(service)) = service else { continue };
        let address = service.data["spec"]["clusterIP"].as_str().unwrap_or_default();
        if address.starts_with("127.")
            && let Some(port) = service.data["spec"]["ports"][0]["port"].as_u64()
        {
            return Ok(format!("https://{address}:{port}"));
        }
    }
    bail!(
        "failed to find the inventory service: name it with --inventory-url or MTV_INVENTORY_URL (kubectl port-forward service/forklift-inventory makes it reachable)"
    )
}
