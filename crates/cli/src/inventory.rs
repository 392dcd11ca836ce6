//! The inventory service, asked with the kubeconfig's credentials.

use anyhow::{Context, bail};
use http::HeaderMap;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
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
        Ok(self.ask(collection, None, false).await?.items)
    }

    /// Returns a collection with all its details, or what a query leaves of it where the service knows queries.
    pub async fn ask(&self, collection: &str, query: Option<&str>, strict: bool) -> anyhow::Result<Answer> {
        let mut path = format!("{}/{collection}?detail=4", self.base);
        if let Some(query) = query {
            let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
            path += &format!("&query={query}{}", if strict { "&strict=true" } else { "" });
        }
        let context = || format!("failed to get {collection} of provider '{}'", self.name);
        let (value, headers) = fetch(&self.client, &path).await.with_context(context)?;
        let items = match value {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => bail!("the inventory's {collection} are not a list: {other}"),
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // services that do not know queries do not count either
        Ok(Answer { items, applied: header("x-total-count").is_some(), warning: header("forklift-warning") })
    }
}

/// What the inventory answered.
pub struct Answer {
    /// The items.
    pub items: Vec<Value>,
    /// Whether the service has applied the query.
    pub applied: bool,
    /// What it says about items that do not fit the query.
    pub warning: Option<String>,
}

/// Returns the inventory's view of all providers, by uid.
pub async fn providers(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let client = connect(cluster).await?;
    let (value, _) = fetch(&client, "/providers?detail=1").await?;
    let lists = value.as_object().into_iter().flat_map(|map| map.values());
    Ok(lists.filter_map(Value::as_array).flatten().cloned().collect())
}

async fn fetch(client: &kube::Client, path: &str) -> anyhow::Result<(Value, HeaderMap)> {
    let request = http::Request::get(path).header("accept", "application/json").body(Body::empty())?;
    let response = client.send(request).await?;
    let (head, body) = response.into_parts();
    let bytes = body.collect_bytes().await?;
    if !head.status.is_success() {
        let told = head.headers.get("forklift-error-message").and_then(|told| told.to_str().ok());
        let said = String::from_utf8_lossy(&bytes);
        let reason = told.unwrap_or_else(|| said.trim());
        let reason = if reason.is_empty() { head.status.canonical_reason().unwrap_or_default() } else { reason };
        bail!("HTTP {}: {reason}", head.status.as_u16());
    }
    if bytes.trim_ascii().is_empty() {
        return Ok((Value::Null, head.headers));
    }
    Ok((serde_json::from_slice(&bytes).context("the inventory's answer is not JSON")?, head.headers))
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

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use forklift_inventory::rest::{Open, router};
    use forklift_inventory::{Draft, Field, Json, KindSpec, ProviderEntry, ProviderSpec};
    use serde_json::json;

    use super::*;

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "ova",
        kinds: &[KindSpec { name: "vms", base: &Field::all(["id", "name"]), ..KindSpec::PLAIN }],
        ..ProviderSpec::PLAIN
    };

    /// Returns the inventory of a service with three VMs: of 1, 2 and 4 GB, the last of them with an odd count.
    pub async fn service() -> Inventory {
        let inventory = forklift_inventory::Inventory::new(None);
        let object = json!({"metadata": {"uid": "u", "name": "p", "namespace": "ns"}, "spec": {"type": "ova"}});
        let entry = inventory.insert(ProviderEntry::collected(&SPEC, object));
        let writer = inventory.writer(&entry);
        for (id, name, memory, count) in
            [("1", "web", 1024, json!(2)), ("2", "db's", 2048, json!(4)), ("3", "odd", 4096, json!("many"))]
        {
            let vm = json!({"id": id, "name": name, "memoryMB": memory, "cpuCount": count});
            writer.upsert("vms", Draft::new(id, name, "", Json(vm)));
        }
        writer.loaded();
        serve(router(inventory, Arc::new(Open))).await
    }

    /// Returns the inventory of a service with these routes.
    pub async fn serve(routes: axum::Router) -> Inventory {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let config = kube::Config::new(format!("http://{address}").parse().expect("an address"));
        let client = kube::Client::try_from(config).expect("a client");
        Inventory { client, base: "/providers/ova/u".into(), name: "p".into(), kind: "ova".into() }
    }

    #[tokio::test]
    async fn the_service_applies_queries_and_says_what_is_wrong() {
        let inventory = service().await;
        let answer = inventory.ask("vms", Some("where name = \"db's\" and memoryMB > 1024"), false).await;
        let answer = answer.expect("an answer");
        assert_eq!((answer.items.len(), answer.applied, answer.warning), (1, true, None));
        let answer = inventory.ask("vms", Some("where cpuCount > 1 order by name desc"), false).await.expect("one");
        assert_eq!(answer.items.iter().map(|vm| vm["name"].as_str()).collect::<Vec<_>>(), [Some("web"), Some("db's")]);
        assert!(answer.warning.is_some_and(|warning| warning.starts_with("1 item does not fit")));
        let refused = inventory.ask("vms", Some("where cpuCount > 1"), true).await.err().expect("a refusal");
        assert!(format!("{refused:#}").contains("HTTP 400: 1 item does not fit"), "{refused:#}");
        assert_eq!(inventory.list("vms").await.expect("all").len(), 3);
    }
}
