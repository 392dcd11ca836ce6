//! Plans and migrations: may this user move these VMs there?
use forklift_api::plan::MigrationType;
use forklift_api::{Migration, Plan, Provider, ProviderType, Ref, StorageMap, annotations};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::Webhooks;
use super::access::{Action, permit};
use super::review::{Answer, PatchOperation, Request};
use crate::map::attachment_exists;
use crate::ports::{Found, Thing};

/// A provisioner that makes no volumes.
const STATIC: &str = "kubernetes.io/no-provisioner";

/// Fills in the transfer network, and marks new plans.
pub async fn mutate(hooks: &Webhooks, request: &Request) -> Answer {
    filled_in(hooks, request).await.map_or_else(|answer| answer, Answer::patch)
}

async fn filled_in(hooks: &Webhooks, request: &Request) -> Result<Vec<PatchOperation>, Answer> {
    let plan: Plan = request.object()?;
    let mut patch = Vec::new();
    if plan.spec.transfer_network.is_none()
        && let Some((namespace, name)) = default_network(hooks, &plan).await?
    {
        let network = json!({"namespace": namespace, "name": name});
        patch.push(PatchOperation::set(&["spec", "transferNetwork"], network));
    }
    if request.creates() && !plan.annotations().contains_key(annotations::POPULATOR_LABELS) {
        if request.object["metadata"]["annotations"].is_object() {
            let keys = ["metadata", "annotations", annotations::POPULATOR_LABELS];
            patch.push(PatchOperation::set(&keys, json!("True")));
        } else {
            let all = json!({annotations::POPULATOR_LABELS: "True"});
            patch.push(PatchOperation::set(&["metadata", "annotations"], all));
        }
    }
    Ok(patch)
}

/// Returns the network that the destination provider names for plans that name none, when it is there.
async fn default_network(hooks: &Webhooks, plan: &Plan) -> Result<Option<(String, String)>, Answer> {
    let destination: Provider = read(&hooks.client, &plan.spec.provider.destination, "destination provider").await?;
    let Some(network) = destination.annotations().get(annotations::DEFAULT_TRANSFER_NETWORK) else { return Ok(None) };
    let (namespace, name) = network.split_once('/').unwrap_or((&plan.spec.target_namespace, network));
    if name.is_empty() {
        return Ok(None);
    }
    let there = if destination.is_host() {
        let cannot = |error| Answer::bad(format!("the network {namespace}/{name} cannot be looked up: {error}"));
        attachment_exists(&hooks.client, namespace, name).await.map_err(cannot)?
    } else {
        let reference = Ref { name: name.to_owned(), namespace: namespace.to_owned(), ..Ref::default() };
        matches!(hooks.providers.find(&destination, Thing::Network, &reference).await, Found::One(_))
    };
    Ok(there.then(|| (namespace.to_owned(), name.to_owned())))
}

/// Judges a plan.
pub async fn validate(hooks: &Webhooks, request: &Request) -> Answer {
    judged(hooks, request).await.map_or_else(|answer| answer, |()| Answer::allow())
}

async fn judged(hooks: &Webhooks, request: &Request) -> Result<(), Answer> {
    let plan: Plan = request.object()?;
    let client = &hooks.client;
    let source: Provider = match read(client, &plan.spec.provider.source, "source provider").await {
        Ok(source) => source,
        // an archived plan outlives its provider, and has to be written to go
        Err(_) if plan.spec.archived => return Ok(()),
        Err(answer) => return Err(answer),
    };
    may_use(client, request, &source).await?;
    let destination: Provider = read(client, &plan.spec.provider.destination, "destination provider").await?;
    may_use(client, request, &destination).await?;
    may_move(client, request, &plan, &source, &destination).await?;
    storage(client, &plan, &source, &destination).await?;
    if source.is(ProviderType::OpenStack) && plan.spec.is_warm() {
        return Err(Answer::bad("warm migration is not supported by the provider"));
    }
    let encrypted = plan.spec.vms.iter().any(|vm| vm.luks.name.as_deref().is_some_and(|name| !name.is_empty()));
    if encrypted && !source.is(ProviderType::VSphere) && !source.is(ProviderType::Ova) {
        return Err(Answer::bad(format!(
            "migration of encrypted disks from source provider of type {} is not supported",
            source.spec.type_
        )));
    }
    Ok(())
}

/// Judges a migration: rights may have gone since the plan was written, and another user may start it.
pub async fn validate_migration(hooks: &Webhooks, request: &Request) -> Answer {
    let judged = async {
        let migration: Migration = request.object()?;
        let client = &hooks.client;
        let plan: Plan = read(client, &migration.spec.plan, "plan").await?;
        let destination: Provider = read(client, &plan.spec.provider.destination, "destination provider").await?;
        let source: Provider = read(client, &plan.spec.provider.source, "source provider").await?;
        may_move(client, request, &plan, &source, &destination).await
    };
    judged.await.map_or_else(|answer| answer, |()| Answer::allow())
}

async fn may_use(client: &Client, request: &Request, provider: &Provider) -> Result<(), Answer> {
    let (namespace, name) = (provider.namespace().unwrap_or_default(), provider.name_any());
    let action =
        Action { verb: "get", group: forklift_api::GROUP, resource: "providers", namespace: &namespace, name: &name };
    permit(client, request, action).await
}

/// Making VMs in the target namespace, and reading the VMs of our own cluster.
async fn may_move(
    client: &Client,
    request: &Request,
    plan: &Plan,
    source: &Provider,
    destination: &Provider,
) -> Result<(), Answer> {
    let vms = Action { verb: "create", group: "kubevirt.io", resource: "virtualmachines", namespace: "", name: "" };
    if destination.is_host() {
        permit(client, request, Action { namespace: &plan.spec.target_namespace, ..vms }).await?;
    }
    if source.is_host() {
        for vm in &plan.spec.vms {
            let (namespace, name) = (&vm.reference.namespace, &vm.reference.name);
            permit(client, request, Action { verb: "get", namespace, name, ..vms }).await?;
        }
    }
    Ok(())
}

/// A cold migration makes volumes: a class without a provisioner makes none.
async fn storage(client: &Client, plan: &Plan, source: &Provider, destination: &Provider) -> Result<(), Answer> {
    let other = plan.spec.is_warm() || plan.spec.migration_type() == MigrationType::Conversion;
    if other || source.is(ProviderType::VSphere) || !destination.is_host() {
        return Ok(());
    }
    let map: StorageMap = read(client, &plan.spec.map.storage, "storage map").await?;
    let classes = Api::<StorageClass>::all(client.clone())
        .list(&ListParams::default())
        .await
        .map_err(|error| Answer::bad(format!("storage classes cannot be listed: {error}")))?;
    let mapped = map.spec.map.iter().map(|row| row.destination.storage_class.as_str());
    let mut found: Vec<&str> = mapped
        .filter(|name| classes.iter().any(|class| class.name_any() == *name && class.provisioner == STATIC))
        .collect();
    found.dedup();
    if found.is_empty() {
        return Ok(());
    }
    Err(Answer::bad(format!("Static storage class(es) found: {found:?}")))
}

/// Reads an object that a reference names; refuses the request when it is not there.
pub(super) async fn read<K>(client: &Client, reference: &ObjectReference, what: &str) -> Result<K, Answer>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    if name.is_empty() || namespace.is_empty() {
        return Err(Answer::bad(format!("the {what} is not set: name and namespace are needed")));
    }
    match Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(Answer::bad(format!("the {what} {namespace}/{name} was not found"))),
        Err(error) => Err(Answer::bad(format!("the {what} {namespace}/{name} cannot be read: {error}"))),
    }
}
