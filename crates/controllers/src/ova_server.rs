//! OVAProviderServer: the pod that reads a folder of appliances and answers the collector over HTTP.
//!
//! ```text
//! Provider(ova) ──makes──► OVAProviderServer ──makes──► PV (directory or NFS) ◄─ PVC ◄─ Pod `worker ova-server` ◄─ Service
//! ```
//! Names are derived from the provider, so everything can be made again after a crash. A pod that is gone or has
//! ended is made anew. A volume belongs to no namespace and so has no owner: the finalizer removes it.
use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::annotations::OVA_PROVIDER_FINALIZER;
use forklift_api::condition::types;
use forklift_api::server::OVAProviderServerSpec;
use forklift_api::worker::PORT;
use forklift_api::{Category, Condition, OVAProviderServer, Provider, Settings, labels};
use forklift_core::build::ova_server::{OvaServer, ova_server, parse_url, server_name};
use forklift_core::plan::TargetObject;
use forklift_core::plan::world::ProviderFacts;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::Context;
use crate::plan::observe::dynamic;
use crate::shell::apply::{MANAGER, create, delete, owner, set_finalizer};
use crate::shell::status::{LONG, Pass, ReconcileError, SLOW};
use crate::worker;

/// Name of the container.
const CONTAINER: &str = "ova-server";

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

/// Returns what core builds a provider's server from.
fn facts(provider: &Provider) -> ProviderFacts {
    ProviderFacts {
        name: provider.name_any(),
        namespace: provider.namespace().unwrap_or_default(),
        uid: provider.uid().unwrap_or_default(),
        ..ProviderFacts::default()
    }
}

/// Sees to it that a provider has its server; tells how the server does.
pub async fn ensure(context: &Context, provider: &Provider) -> Result<Server, ReconcileError> {
    let facts = facts(provider);
    let (name, namespace) = (server_name(&facts), &facts.namespace);
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
        server.metadata.labels = Some(BTreeMap::from([(labels::SERVER_PROVIDER.to_owned(), provider.name_any())]));
        server.metadata.owner_references = owner(provider, true, true).map(|owner| vec![owner]);
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
    let pod = context.caches.server_pods.get(&ObjectRef::new(&name).within(namespace));
    match (pod.filter(|pod| worker::is_ready(pod)), &status.service) {
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
    let facts = facts(provider);
    let api: Api<OVAProviderServer> = Api::namespaced(context.client.clone(), &facts.namespace);
    let name = server_name(&facts);
    let Some(server) = api.get_opt(&name).await? else { return Ok(true) };
    if server.spec.provider.uid != provider.uid() {
        return Ok(true);
    }
    delete(&api, &name, server.uid().as_deref()).await?;
    Ok(false)
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
        pass.set(Condition::new(
            types::PROVIDER_NOT_VALID,
            Category::Critical,
            "The provider does not exist (any more).",
        ));
        return Ok(Action::requeue(LONG));
    };
    let store = match parse_url(&provider.spec.url) {
        Ok(store) => store,
        Err(error) => {
            pass.set(Condition::new(types::URL_NOT_VALID, Category::Critical, error));
            return Ok(Action::requeue(LONG));
        }
    };
    let facts = facts(&provider);
    let (name, namespace) = (server.name_any(), server.namespace().unwrap_or_default());
    let settings = &context.config.settings;
    let objects = ova_server(&OvaServer {
        name: &name,
        uid: &server.uid().unwrap_or_default(),
        provider: &facts,
        store: &store,
        image: &settings.ova_provider_server_image,
    });
    for object in &objects {
        ensure_object(context, object, &name, settings).await?;
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let Some(pod) = pods.get_opt(&server_name(&facts)).await? else { return Err(ReconcileError::stale()) };
    pass.status.service = Some(ObjectReference {
        kind: Some("Service".to_owned()),
        namespace: Some(namespace),
        name: Some(server_name(&facts)),
        ..ObjectReference::default()
    });
    if matches!(worker::phase(&pod), "Failed" | "Succeeded") {
        // It has ended: the next pass makes it anew.
        let last = worker::termination_message(&pod, CONTAINER).unwrap_or("no message").trim().to_owned();
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
        Some((reason, message))
            if matches!(reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName") =>
        {
            (
                Category::Critical,
                types::CONNECTION_TEST_FAILED,
                format!("The image of the provider's server cannot be fetched: {reason}: {message}"),
            )
        }
        Some((reason, message))
            if matches!(
                reason.as_str(),
                "CrashLoopBackOff" | "CreateContainerConfigError" | "CreateContainerError"
            ) =>
        {
            let last = worker::termination_message(pod, CONTAINER).map(str::trim).filter(|text| !text.is_empty());
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
            (
                Category::Advisory,
                types::WAITING_FOR_SERVICE,
                format!("Waiting for the provider's server to be ready{why}."),
            )
        }
    }
}

/// Makes one of the server's objects; one that exists must carry the server's label.
async fn ensure_object(
    context: &Context,
    object: &TargetObject,
    server: &str,
    settings: &Settings,
) -> Result<(), ReconcileError> {
    let api = dynamic(context, &object.api_version, &object.kind, object.namespace.as_deref());
    let mut manifest = object.json.clone();
    if object.kind == "Pod" {
        manifest["spec"]["containers"][0]["resources"] = json!({
            "requests": {"cpu": settings.ova_requests_cpu, "memory": settings.ova_requests_memory},
            "limits": {"cpu": settings.ova_limits_cpu, "memory": settings.ova_limits_memory},
        });
    }
    let wanted: DynamicObject = serde_json::from_value(manifest)
        .map_err(|error| ReconcileError::retry(format!("building the provider's server: {error}")))?;
    let what = || format!("{} {}", object.kind, object.name);
    match api.create(&PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &wanted).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => match api.get_metadata_opt(&object.name).await? {
            Some(found) if belongs(found.labels(), server) => Ok(()),
            Some(_) => Err(ReconcileError::blocked(Condition::new(
                types::CONNECTION_TEST_FAILED,
                Category::Critical,
                format!("{} exists and was not made for this provider: remove it", what()),
            ))),
            None => Err(ReconcileError::stale()),
        },
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
            Err(ReconcileError::blocked(Condition::new(
                types::CONNECTION_TEST_FAILED,
                Category::Critical,
                format!("{} of the provider's server is refused: {}", what(), status.message),
            )))
        }
        Err(error) => Err(error.into()),
    }
}

fn belongs(labels: &BTreeMap<String, String>, server: &str) -> bool {
    labels.get(labels::OVA_SERVER).is_some_and(|value| value == server)
}

async fn tear_down(context: &Context, server: &OVAProviderServer) -> Result<(), ReconcileError> {
    let name = server.name_any();
    let namespace = server.namespace().unwrap_or_default();
    for (api_version, kind, namespace) in [
        ("v1", "Pod", Some(namespace.as_str())),
        ("v1", "Service", Some(namespace.as_str())),
        ("v1", "PersistentVolumeClaim", Some(namespace.as_str())),
        ("v1", "PersistentVolume", None),
    ] {
        let api = dynamic(context, api_version, kind, namespace);
        let params = ListParams::default().labels(&format!("{}={name}", labels::OVA_SERVER));
        for found in api.list_metadata(&params).await?.items {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: found.uid(), ..Preconditions::default() }),
                ..DeleteParams::background()
            };
            match api.delete(&found.name_any(), &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
