//! The endpoints controller: EndpointSlices from a service's selector and the readiness of its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::SERVICE_NAME;
use crate::objects::{Touched, filled};

/// The label that says who keeps a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// What the controller looks at.
pub struct Stores {
    /// All services.
    pub services: Store<Service>,
    /// All pods.
    pub pods: Store<Pod>,
    /// All slices.
    pub slices: Store<EndpointSlice>,
}

/// A change that the controller hears of.
pub enum Change {
    /// A service.
    Service(Touched<Service>),
    /// A pod.
    Pod(Touched<Pod>),
    /// A slice.
    Slice(Touched<EndpointSlice>),
}

type Key = (String, String);

/// Keeps the slices of all services with a selector until shutdown; `after` hears of each round of changes.
pub async fn run(
    client: Client,
    stores: Stores,
    mut changes: BoxStream<'static, Change>,
    mut after: impl FnMut(),
    shutdown: CancellationToken,
) {
    let mut dirty: BTreeSet<Key> = BTreeSet::new();
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => change,
            () = tokio::time::sleep(std::time::Duration::from_secs(1)), if !dirty.is_empty() => None,
        };
        if let Some(change) = change {
            dirty.extend(touched(&change, &stores));
            // what is there already belongs to the same round
            while let Some(Some(change)) = futures::FutureExt::now_or_never(changes.next()) {
                dirty.extend(touched(&change, &stores));
            }
        } else if dirty.is_empty() {
            return;
        }
        after();
        if !filled(&stores.services) || !filled(&stores.pods) || !filled(&stores.slices) {
            continue;
        }
        for key in std::mem::take(&mut dirty) {
            if let Err(error) = keep(&client, &stores, &key).await {
                if !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) {
                    tracing::warn!(%error, service = key.1, "endpoints not written");
                }
                dirty.insert(key);
            }
        }
    }
}

/// The services that a change may concern.
fn touched(change: &Change, stores: &Stores) -> Vec<Key> {
    let key = |meta: &ObjectMeta| (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    let all = |namespace: Option<&String>| {
        let services = stores.services.state().into_iter();
        services
            .filter(|service| namespace.is_none() || service.metadata.namespace.as_ref() == namespace)
            .map(|service| key(&service.metadata))
            .collect::<Vec<_>>()
    };
    match change {
        Change::Service(Touched::One(service)) => vec![key(&service.metadata)],
        Change::Pod(Touched::One(pod)) => all(pod.metadata.namespace.as_ref()),
        Change::Slice(Touched::One(slice)) => {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).cloned();
            service.map(|name| (slice.metadata.namespace.clone().unwrap_or_default(), name)).into_iter().collect()
        }
        Change::Service(Touched::All) | Change::Pod(Touched::All) | Change::Slice(Touched::All) => all(None),
    }
}

async fn keep(client: &Client, stores: &Stores, (namespace, name): &Key) -> kube::Result<()> {
    let Some(service) = stores.services.get(&ObjectRef::new(name).within(namespace)) else { return Ok(()) };
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let has_selector = service.spec.as_ref().is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    });
    let wanted = if has_selector { slices(&service, &stores.pods.state()) } else { Vec::new() };
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let label = |slice: &EndpointSlice, label: &str| slice.metadata.labels.as_ref()?.get(label).cloned();
    let known: Vec<Arc<EndpointSlice>> = stores
        .slices
        .state()
        .into_iter()
        .filter(|slice| {
            slice.metadata.namespace.as_ref() == Some(namespace)
                && label(slice, SERVICE_NAME).as_ref() == Some(name)
                && label(slice, MANAGED_BY).as_deref() == Some(MANAGER)
        })
        .collect();
    for old in &known {
        if !wanted.iter().any(|slice| slice.metadata.name == old.metadata.name) {
            let name = old.metadata.name.as_deref().unwrap_or_default();
            match api.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
    }
    for mut slice in wanted {
        match known.iter().find(|old| old.metadata.name == slice.metadata.name) {
            Some(old) if old.endpoints == slice.endpoints && old.ports == slice.ports => {}
            Some(old) => {
                slice.metadata.resource_version = old.metadata.resource_version.clone();
                let name = slice.metadata.name.clone().unwrap_or_default();
                api.replace(&name, &PostParams::default(), &slice).await?;
            }
            None => drop(api.create(&PostParams::default(), &slice).await?),
        }
    }
    Ok(())
}

/// The slices of a service: one for each set of port numbers, as named ports may differ from pod to pod.
pub fn slices(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSlice> {
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    let any = spec.publish_not_ready_addresses == Some(true);
    let mut groups: BTreeMap<Vec<(String, String, i32)>, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods {
        let labels = pod.metadata.labels.as_ref();
        let fits = pod.metadata.namespace == service.metadata.namespace
            && selector.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)));
        if let Some(endpoint) = fits.then(|| endpoint(pod, any, service.metadata.name.as_deref())).flatten() {
            let ports = super::ports(service).iter().filter_map(|port| resolve(port, pod)).collect();
            groups.entry(ports).or_default().push(endpoint);
        }
    }
    if groups.is_empty() {
        // clients see from a slice without endpoints that the service is known
        groups.insert(
            super::ports(service).iter().filter_map(|port| Some(plain(port, number(port)?))).collect(),
            Vec::new(),
        );
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    let slice = |(ports, mut endpoints): (Vec<(String, String, i32)>, Vec<Endpoint>)| {
        endpoints.sort_by(|one, other| one.addresses.cmp(&other.addresses));
        let base: String = name.chars().take(57).collect();
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(format!("{base}-{}", &crate::events::short_hash(&format!("{ports:?}"))[..5])),
                namespace: service.metadata.namespace.clone(),
                labels: Some(
                    [(SERVICE_NAME.to_owned(), name.clone()), (MANAGED_BY.to_owned(), MANAGER.to_owned())]
                        .into_iter()
                        .chain(
                            super::is_headless(service)
                                .then(|| ("service.kubernetes.io/headless".to_owned(), String::new())),
                        )
                        .collect(),
                ),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Service".into(),
                    name: name.clone(),
                    uid: service.metadata.uid.clone().unwrap_or_default(),
                    controller: Some(true),
                    block_owner_deletion: Some(true),
                }]),
                ..ObjectMeta::default()
            },
            address_type: "IPv4".into(),
            endpoints,
            ports: Some(
                ports
                    .into_iter()
                    .map(|(name, protocol, port)| EndpointPort {
                        name: Some(name),
                        protocol: Some(protocol),
                        port: Some(port),
                        ..EndpointPort::default()
                    })
                    .collect(),
            ),
        }
    };
    groups.into_iter().map(slice).collect()
}

fn endpoint(pod: &Pod, any: bool, service: Option<&str>) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ready = status.conditions.iter().flatten().any(|known| known.type_ == "Ready" && known.status == "True");
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|_| spec.subdomain.as_deref() == service);
    Some(Endpoint {
        addresses: vec![status.pod_ip.clone()?],
        conditions: Some(EndpointConditions {
            ready: Some(any || ready && !leaving),
            serving: Some(any || ready),
            terminating: Some(leaving),
        }),
        hostname,
        node_name: spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

fn plain(port: &ServicePort, number: i32) -> (String, String, i32) {
    (port.name.clone().unwrap_or_default(), port.protocol.clone().unwrap_or_else(|| "TCP".into()), number)
}

fn number(port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => name.parse().ok(),
    }
}

/// The number of a port in a pod; none: the pod has no port of that name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<(String, String, i32)> {
    let by_name = || {
        let Some(IntOrString::String(name)) = &port.target_port else { return None };
        let mut ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|one| one.ports.iter().flatten());
        ports.find(|known| known.name.as_ref() == Some(name)).map(|known| known.container_port)
    };
    number(port).or_else(by_name).map(|number| plain(port, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, ready: &str, more: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": format!("127.64.0.{}", name.len()),
                       "conditions": [{"type": "Ready", "status": ready}]},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            pod[key] = value.clone();
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn summary(service: Value, pods: &[Arc<Pod>]) -> Vec<String> {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "u"}, "spec": service}))
                .expect("a service");
        slices(&service, pods)
            .iter()
            .map(|slice| {
                let ports: Vec<i32> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
                let endpoints: Vec<String> = slice
                    .endpoints
                    .iter()
                    .map(|endpoint| {
                        let ready = endpoint.conditions.as_ref().and_then(|known| known.ready);
                        format!("{} {}", endpoint.addresses[0], ready == Some(true))
                    })
                    .collect();
                format!("{ports:?} {endpoints:?}")
            })
            .collect()
    }

    #[test]
    fn ready_pods_of_the_selector_are_endpoints() {
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]});
        let pods = [
            pod("a", "True", json!({})),
            pod("bb", "False", json!({})),
            pod("ccc", "True", json!({"metadata": {"name": "ccc", "namespace": "n", "labels": {"app": "other"}}})),
            pod("dddd", "True", json!({"status": {"phase": "Succeeded", "podIP": "127.64.0.4"}})),
        ];
        assert_eq!(summary(spec, &pods), [r#"[8080] ["127.64.0.1 true", "127.64.0.2 false"]"#]);
        let any = json!({"selector": {"app": "web"}, "ports": [{"port": 80}], "publishNotReadyAddresses": true});
        assert_eq!(summary(any, &pods[1..2]), [r#"[80] ["127.64.0.2 true"]"#]);
        let nobody = json!({"selector": {"app": "nobody"}, "ports": [{"port": 80}]});
        assert_eq!(summary(nobody, &pods), ["[80] []"]);
    }
}
