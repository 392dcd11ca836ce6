//! OVAProviderServer: the pod that reads a folder of appliances and answers the collector over HTTP.
//!
//! ```text
//! Provider(ova) ──makes──► OVAProviderServer ──makes──► PV (directory or NFS) ◄─ PVC ◄─ Pod `worker ova-server` ◄─ Service
//! ```
//! Names are derived from the server's UID, so everything can be made again after a crash. A pod that is gone or has
//! ended is made anew. A volume belongs to no namespace and so has no owner: the finalizer removes it.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::annotations::OVA_PROVIDER_FINALIZER;
use forklift_api::condition::types;
use forklift_api::server::OVAProviderServerSpec;
use forklift_api::worker::PORT;
use forklift_api::{Category, Condition, OVAProviderServer, Provider, labels};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use kube::api::ObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::Context;
use crate::shell::apply::{create, delete, owner, set_finalizer};
use crate::shell::status::{LONG, Pass, ReconcileError, SLOW};
use crate::worker;

/// Where the appliances of an OVA provider are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// A directory of the node.
    Directory(String),
    /// An NFS export.
    Nfs {
        /// The server.
        server: String,
        /// The exported path.
        path: String,
    },
}

impl Folder {
    /// Reads `server:/path`, `/path` or `file:///path`.
    pub fn parse(url: &str) -> Option<Self> {
        let url = url.trim();
        let directory = url.strip_prefix("file://").or_else(|| url.starts_with('/').then_some(url));
        if let Some(path) = directory {
            return path.starts_with('/').then(|| Self::Directory(path.to_owned()));
        }
        let (server, path) = url.split_once(":/")?;
        if server.is_empty() || server.contains(['/', ' ']) || path.starts_with('/') || path.contains(':') {
            return None;
        }
        Some(Self::Nfs { server: server.to_owned(), path: format!("/{path}") })
    }
}

/// How a provider's server does.
pub enum Server {
    /// It answers.
    Ready {
        /// Base URL.
        url: String,
        /// Its service.
        service: ObjectReference,
    },
    /// It is being started.
    Starting(String),
    /// It cannot be started.
    Broken(String),
}

/// Returns the server's name: derived from the provider, in the controllers' namespace.
fn server_name(provider: &Provider) -> String {
    derived(&provider.name_any(), "ova", &provider.uid().unwrap_or_default())
}

/// Returns `<name>-<kind>-<first of the UID>`, cut to what a DNS label holds.
fn derived(name: &str, kind: &str, uid: &str) -> String {
    let unique: String = uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let room = 63 - kind.len() - unique.len() - 2;
    let name: String = name.replace('.', "-").chars().take(room).collect();
    format!("{}-{kind}-{unique}", name.trim_end_matches('-'))
}

/// Sees to it that a provider has its server; tells how the server does.
pub async fn ensure(context: &Context, provider: &Provider) -> Result<Server, ReconcileError> {
    let name = server_name(provider);
    let namespace = &context.config.namespace;
    let Some(server) = context.caches.servers.get(&ObjectRef::new(&name).within(namespace)) else {
        let api: Api<OVAProviderServer> = Api::namespaced(context.client.clone(), namespace);
        let mut server = OVAProviderServer::new(
            &name,
            OVAProviderServerSpec {
                provider: ObjectReference {
                    name: Some(provider.name_any()),
                    namespace: provider.namespace(),
                    uid: provider.uid(),
                    ..ObjectReference::default()
                },
            },
        );
        server.metadata.namespace = Some(namespace.clone());
        server.metadata.labels = Some(BTreeMap::from([(labels::SERVER_PROVIDER.to_owned(), provider.uid().unwrap_or_default())]));
        let uid = provider.uid();
        create(&api, &server, |found| found.spec.provider.uid == uid).await?;
        return Ok(Server::Starting("The provider's server is being created.".to_owned()));
    };
    let Some(status) = &server.status else {
        return Ok(Server::Starting("The provider's server is being created.".to_owned()));
    };
    if let Some(failed) = status.conditions.find(types::CONNECTION_TEST_FAILED) {
        return Ok(Server::Broken(failed.message.clone()));
    }
    let ready = status.conditions.is_ready();
    match (server_pod(context, &server).filter(|pod| worker::is_ready(pod)), &status.service) {
        (Some(pod), Some(service)) if ready => {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default();
            Ok(Server::Ready { url: format!("http://{}:{PORT}", worker::host(ip)), service: service.clone() })
        }
        _ => {
            let waiting = status.conditions.find(types::WAITING_FOR_SERVICE).map(|condition| condition.message.clone());
            Ok(Server::Starting(waiting.unwrap_or_else(|| "The provider's server is starting.".to_owned())))
        }
    }
}

/// Removes a provider's server; returns whether it is gone.
pub async fn remove(context: &Context, provider: &Provider) -> Result<bool, ReconcileError> {
    let api: Api<OVAProviderServer> = Api::namespaced(context.client.clone(), &context.config.namespace);
    let name = server_name(provider);
    let Some(server) = api.get_opt(&name).await? else { return Ok(true) };
    if server.spec.provider.uid != provider.uid() {
        return Ok(true);
    }
    delete(&api, &name, server.uid().as_deref()).await?;
    Ok(false)
}

fn server_pod(context: &Context, server: &OVAProviderServer) -> Option<Arc<Pod>> {
    let name = derived(&server.name_any(), "pod", &server.uid().unwrap_or_default());
    context.caches.server_pods.get(&ObjectRef::new(&name).within(&server.namespace().unwrap_or_default()))
}

/// Looks at a server.
pub async fn reconcile(server: Arc<OVAProviderServer>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let api: Api<OVAProviderServer> = Api::namespaced(context.client.clone(), &server.namespace().unwrap_or_default());
    if server.metadata.deletion_timestamp.is_some() {
        tear_down(&context, &server).await?;
        set_finalizer(&api, server.as_ref(), OVA_PROVIDER_FINALIZER, false).await?;
        return Ok(Action::await_change());
    }
    if set_finalizer(&api, server.as_ref(), OVA_PROVIDER_FINALIZER, true).await? {
        return Ok(Action::requeue(SLOW));
    }
    let mut pass = Pass::begin(&context.client, server.as_ref(), Timestamp::now());
    let result = deploy(&context, &server, &mut pass).await;
    pass.finish(result).await
}

async fn deploy(
    context: &Context,
    server: &OVAProviderServer,
    pass: &mut Pass<'_, OVAProviderServer>,
) -> Result<Action, ReconcileError> {
    let provider = context
        .caches
        .provider(&server.spec.provider)
        .filter(|provider| server.spec.provider.uid.is_none() || provider.uid() == server.spec.provider.uid);
    let Some(provider) = provider else {
        pass.set(Condition::new(types::PROVIDER_NOT_VALID, Category::Critical, "The provider does not exist (any more)."));
        return Ok(Action::requeue(LONG));
    };
    let Some(folder) = Folder::parse(&provider.spec.url) else {
        pass.set(Condition::new(types::URL_NOT_VALID, Category::Critical, "The provider's URL names no folder."));
        return Ok(Action::requeue(LONG));
    };
    let parts = Parts::new(server, &provider, &folder, context)?;
    let namespace = server.namespace().unwrap_or_default();
    let client = || context.client.clone();
    let mine = |meta: &ObjectMeta| belongs(meta, &parts.uid);
    create(&Api::all(client()), &parts.volume, |found: &PersistentVolume| mine(&found.metadata)).await?;
    create(&Api::namespaced(client(), &namespace), &parts.claim, |found: &PersistentVolumeClaim| mine(&found.metadata)).await?;
    create(&Api::namespaced(client(), &namespace), &parts.service, |found: &Service| mine(&found.metadata)).await?;
    let pods: Api<Pod> = Api::namespaced(client(), &namespace);
    let (pod, _) = create(&pods, &parts.pod, |found: &Pod| mine(&found.metadata)).await?;
    pass.status.service = Some(ObjectReference {
        kind: Some("Service".to_owned()),
        namespace: Some(namespace),
        name: parts.service.metadata.name.clone(),
        ..ObjectReference::default()
    });
    if matches!(worker::phase(&pod), "Failed" | "Succeeded") {
        // It has ended: the next pass makes it anew.
        let last = worker::termination_message(&pod, "server").unwrap_or("no message").trim().to_owned();
        delete(&pods, &pod.name_any(), pod.uid().as_deref()).await?;
        "Starting".clone_into(&mut pass.status.phase);
        let message = format!("The provider's server ended ({last}) and is started again.");
        pass.set(Condition::new(types::WAITING_FOR_SERVICE, Category::Advisory, message));
        return Ok(Action::requeue(SLOW));
    }
    if worker::is_ready(&pod) {
        "Ready".clone_into(&mut pass.status.phase);
        pass.set(Condition::new(types::READY, Category::Required, "The provider's server is ready."));
        return Ok(Action::requeue(LONG));
    }
    "Starting".clone_into(&mut pass.status.phase);
    let patience = i64::try_from(context.config.settings.provider_pending_timeout.get()).unwrap_or(i64::MAX);
    let (category, type_, message) = judge(&pod, pass.now, patience);
    pass.set(Condition::new(type_, category, message));
    Ok(Action::requeue(SLOW))
}

/// Says why a server's pod does not answer yet, and whether that can be waited for.
fn judge(pod: &Pod, now: Timestamp, patience: i64) -> (Category, &'static str, String) {
    let age = pod.creation_timestamp().map_or(0, |made| now.as_second() - made.0.as_second());
    match worker::waiting(pod) {
        Some((reason, message)) if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName") => (
            Category::Critical,
            types::CONNECTION_TEST_FAILED,
            format!("The image of the provider's server cannot be fetched: {reason}: {message}"),
        ),
        Some((reason, message))
            if matches!(reason.as_str(), "CrashLoopBackOff" | "CreateContainerConfigError" | "CreateContainerError") =>
        {
            let last = worker::termination_message(pod, "server").map(str::trim).filter(|text| !text.is_empty());
            let message = last.unwrap_or(&message).to_owned();
            (
                Category::Critical,
                types::CONNECTION_TEST_FAILED,
                format!("The provider's server cannot be started: {reason}: {message}"),
            )
        }
        waiting if worker::phase(pod) == "Pending" && age > patience => {
            let why = waiting.map_or_else(
                || "the folder may not be mountable".to_owned(),
                |(reason, message)| format!("{reason}: {message}"),
            );
            (
                Category::Critical,
                types::CONNECTION_TEST_FAILED,
                format!("The provider's server has been pending for {age} s: {why}"),
            )
        }
        waiting => {
            let why = waiting.map(|(reason, message)| format!(" ({reason}: {message})")).unwrap_or_default();
            (Category::Advisory, types::WAITING_FOR_SERVICE, format!("Waiting for the provider's server to be ready{why}."))
        }
    }
}

fn belongs(meta: &ObjectMeta, uid: &str) -> bool {
    meta.labels.as_ref().is_some_and(|labels| labels.get(labels::OVA_SERVER).is_some_and(|value| value == uid))
}

async fn tear_down(context: &Context, server: &OVAProviderServer) -> Result<(), ReconcileError> {
    let (name, uid) = (server.name_any(), server.uid().unwrap_or_default());
    let namespace = server.namespace().unwrap_or_default();
    let client = || context.client.clone();
    let object = |kind: &str| derived(&name, kind, &uid);
    macro_rules! remove {
        ($api:expr, $kind:literal) => {{
            let api = $api;
            if let Some(found) = api.get_opt(&object($kind)).await?.filter(|found| belongs(&found.metadata, &uid)) {
                delete(&api, &found.name_any(), found.uid().as_deref()).await?;
            }
        }};
    }
    remove!(Api::<Pod>::namespaced(client(), &namespace), "pod");
    remove!(Api::<Service>::namespaced(client(), &namespace), "svc");
    remove!(Api::<PersistentVolumeClaim>::namespaced(client(), &namespace), "pvc");
    remove!(Api::<PersistentVolume>::all(client()), "pv");
    Ok(())
}

/// The objects of a server.
struct Parts {
    uid: String,
    volume: PersistentVolume,
    claim: PersistentVolumeClaim,
    pod: Pod,
    service: Service,
}

impl Parts {
    fn new(
        server: &OVAProviderServer,
        provider: &Provider,
        folder: &Folder,
        context: &Context,
    ) -> Result<Self, ReconcileError> {
        let (name, uid) = (server.name_any(), server.uid().unwrap_or_default());
        let namespace = server.namespace().unwrap_or_default();
        let object = |kind: &str| derived(&name, kind, &uid);
        let settings = &context.config.settings;
        let labels = json!({
            labels::SERVER_APP: labels::SERVER_APP_FORKLIFT,
            labels::SERVER_SUBAPP: labels::SUBAPP_OVA_SERVER,
            labels::SERVER_PROVIDER: provider.uid().unwrap_or_default(),
            labels::OVA_SERVER: uid,
        });
        let source = match folder {
            Folder::Directory(path) => json!({"hostPath": {"path": path, "type": "Directory"}}),
            Folder::Nfs { server, path } => json!({"nfs": {"server": server, "path": path}}),
        };
        let owners = owner(server, true, true);
        let meta = |kind: &str| {
            json!({"name": object(kind), "namespace": namespace, "labels": labels, "ownerReferences": owners.iter().collect::<Vec<_>>()})
        };
        let mut volume = json!({
            "metadata": {"name": object("pv"), "labels": labels},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadOnlyMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": object("pvc")},
            },
        });
        merge(&mut volume["spec"], source);
        let claim = json!({
            "metadata": meta("pvc"),
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "volumeName": object("pv"),
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        let test = json!({"httpGet": {"path": "/test_connection", "port": PORT}, "initialDelaySeconds": 1, "periodSeconds": 3});
        let pod = json!({
            "metadata": meta("pod"),
            "spec": {
                "restartPolicy": "Always",
                "securityContext": {"runAsNonRoot": true, "fsGroup": 107, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "server",
                    "image": settings.ova_provider_server_image,
                    "args": ["worker", "ova-server"],
                    "env": [
                        {"name": "CATALOG_PATH", "value": "/ova"},
                        {"name": "PROVIDER_NAMESPACE", "value": provider.namespace()},
                        {"name": "PROVIDER_NAME", "value": provider.name_any()},
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                    "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
                    "readinessProbe": test,
                    "resources": {
                        "requests": {"cpu": settings.ova_requests_cpu, "memory": settings.ova_requests_memory},
                        "limits": {"cpu": settings.ova_limits_cpu, "memory": settings.ova_limits_memory},
                    },
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "appliances", "mountPath": "/ova", "readOnly": true}],
                }],
                "volumes": [{"name": "appliances", "persistentVolumeClaim": {"claimName": object("pvc"), "readOnly": true}}],
            },
        });
        let service = json!({
            "metadata": meta("svc"),
            "spec": {
                "selector": {labels::OVA_SERVER: uid},
                "ports": [{"name": "api-http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
                "type": "ClusterIP",
            },
        });
        Ok(Self { volume: typed(volume)?, claim: typed(claim)?, pod: typed(pod)?, service: typed(service)?, uid })
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ReconcileError> {
    serde_json::from_value(value).map_err(|error| ReconcileError::retry(format!("building the provider's server: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        let nfs = |server: &str, path: &str| Some(Folder::Nfs { server: server.into(), path: path.into() });
        assert_eq!(Folder::parse("10.0.0.1:/exports/ova"), nfs("10.0.0.1", "/exports/ova"));
        assert_eq!(Folder::parse("/srv/ova"), Some(Folder::Directory("/srv/ova".into())));
        assert_eq!(Folder::parse("file:///srv/ova"), Some(Folder::Directory("/srv/ova".into())));
        for bad in ["", "server", ":/x", "https://host/path", "file://host", "a b:/x", "host:/a:/b"] {
            assert_eq!(Folder::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_fit_and_stay_unique() {
        let name = derived(&"p".repeat(80), "pod", "0123abcd-ffff");
        assert_eq!((name.len(), &name[name.len() - 13..]), (63, "-pod-0123abcd"));
        assert_eq!(derived("a.b", "pv", "0123abcd-ffff"), "a-b-pv-0123abcd");
    }
}
