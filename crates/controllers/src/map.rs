//! NetworkMap and StorageMap: both sides of every row must exist; the sources are written down with id and name.
use std::sync::Arc;

use forklift_api::condition::{reasons, types};
use forklift_api::map::{DestinationNetworkType, GLANCE};
use forklift_api::provider::ProviderPair;
use forklift_api::{Category, Condition, NetworkMap, Provider, ProviderType, Ref, StorageMap};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};

use crate::context::{Context, is_set};
use crate::ports::{Found, Thing};
use crate::shell::status::{LONG, Pass, ReconcileError, SLOW};

/// Looks at a network map.
pub async fn reconcile_network(map: Arc<NetworkMap>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let mut pass = Pass::begin(&context.client, map.as_ref(), jiff::Timestamp::now());
    let result = network_pass(&context, &mut pass).await;
    pass.finish(result).await
}

async fn network_pass(context: &Context, pass: &mut Pass<'_, NetworkMap>) -> Result<Action, ReconcileError> {
    let map = pass.object;
    let (conditions, providers) = check_pair(context, &map.spec.provider);
    conditions.into_iter().for_each(|condition| pass.set(condition));
    let Some((source, _)) = providers else { return Ok(Action::requeue(SLOW)) };

    let mut sources = Sources::default();
    for pair in &map.spec.map {
        sources.look_up(context, &source, Thing::Network, &pair.source.reference, false).await;
    }
    let (mut missing, mut ambiguous) = (Vec::new(), Vec::new());
    for destination in map.spec.map.iter().map(|pair| &pair.destination) {
        if destination.type_ != DestinationNetworkType::Multus {
            continue;
        }
        let item = format!("{}/{}", destination.namespace, destination.name);
        if destination.namespace.is_empty() {
            ambiguous.push(item);
        } else if !attachment_exists(&context.client, &destination.namespace, &destination.name).await? {
            missing.push(item);
        }
    }
    if !missing.is_empty() {
        pass.set(
            Condition::new(
                types::DESTINATION_NETWORK_NOT_VALID,
                Category::Critical,
                "Destination network (NAD) not found.",
            )
            .reason(reasons::NOT_FOUND)
            .items(missing),
        );
    } else if !ambiguous.is_empty() {
        pass.set(
            Condition::new(types::DESTINATION_NETWORK_NOT_VALID, Category::Critical, "NAD namespace required.")
                .reason(reasons::AMBIGUOUS)
                .items(ambiguous),
        );
    }
    sources.dedup();
    let again = sources.report(types::SOURCE_NETWORK_NOT_VALID, "network").map(|condition| pass.set(condition));
    pass.status.references = sources.found;
    Ok(close(pass.conditions().has_blocker(), again.is_some(), "network").apply(pass, |pass, c| pass.set(c)))
}

/// Looks at a storage map.
pub async fn reconcile_storage(map: Arc<StorageMap>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let mut pass = Pass::begin(&context.client, map.as_ref(), jiff::Timestamp::now());
    let result = storage_pass(&context, &mut pass).await;
    pass.finish(result).await
}

async fn storage_pass(context: &Context, pass: &mut Pass<'_, StorageMap>) -> Result<Action, ReconcileError> {
    let map = pass.object;
    let (conditions, providers) = check_pair(context, &map.spec.provider);
    conditions.into_iter().for_each(|condition| pass.set(condition));
    let Some((source, _)) = providers else { return Ok(Action::requeue(SLOW)) };

    let mut sources = Sources::default();
    for pair in &map.spec.map {
        let glance = source.is(ProviderType::OpenStack) && pair.source.name == GLANCE;
        sources.look_up(context, &source, Thing::Storage, &pair.source, glance).await;
    }
    let missing: Vec<String> = map
        .spec
        .map
        .iter()
        .map(|pair| &pair.destination.storage_class)
        .filter(|class| context.caches.storage_classes.get(&ObjectRef::new(class)).is_none())
        .cloned()
        .collect();
    if !missing.is_empty() {
        pass.set(
            Condition::new(types::DESTINATION_STORAGE_NOT_VALID, Category::Critical, "Destination storage not found.")
                .reason(reasons::NOT_FOUND)
                .items(missing),
        );
    }
    let again = sources.report(types::SOURCE_STORAGE_NOT_VALID, "storage").map(|condition| pass.set(condition));
    pass.status.references = sources.found;
    Ok(close(pass.conditions().has_blocker(), again.is_some(), "storage").apply(pass, |pass, c| pass.set(c)))
}

/// The end of a map's pass.
struct Close {
    ready: Option<Condition>,
    action: Action,
}

impl Close {
    fn apply<P>(self, pass: &mut P, set: impl Fn(&mut P, Condition)) -> Action {
        if let Some(ready) = self.ready {
            set(pass, ready);
        }
        self.action
    }
}

fn close(blocked: bool, incomplete: bool, what: &str) -> Close {
    let ready =
        (!blocked).then(|| Condition::new(types::READY, Category::Required, format!("The {what} map is ready.")));
    Close { ready, action: Action::requeue(if blocked || incomplete { SLOW } else { LONG }) }
}

/// The sources of a map, as far as they were found.
#[derive(Default)]
struct Sources {
    found: Vec<Ref>,
    not_set: Vec<String>,
    not_found: Vec<String>,
    ambiguous: Vec<String>,
    unknown: Vec<String>,
}

impl Sources {
    async fn look_up(&mut self, context: &Context, provider: &Provider, kind: Thing, wanted: &Ref, known: bool) {
        // The pod network of an OpenShift source has a type and nothing else.
        let by_type = kind == Thing::Network && wanted.type_ == "pod";
        if known || by_type {
            return self.found.push(wanted.clone());
        }
        let item = wanted.to_string();
        if wanted.id.is_empty() && wanted.name.is_empty() {
            return self.not_set.push(item);
        }
        match context.providers().find(provider, kind, wanted).await {
            Found::One(reference) => self.found.push(reference),
            Found::None => self.not_found.push(item),
            Found::Many => self.ambiguous.push(item),
            Found::NotLoaded => self.unknown.push(item),
        }
    }

    /// Networks may stand in several rows: a pool.
    fn dedup(&mut self) {
        let mut seen = std::collections::BTreeSet::new();
        self.found.retain(|reference| seen.insert(reference.clone()));
    }

    /// Returns what there is to say; the worst finding wins, because a type stands only once.
    fn report(&mut self, type_: &str, what: &str) -> Option<Condition> {
        let condition = |category, reason: &str, message: String, items: &mut Vec<String>| {
            Some(Condition::new(type_, category, message).reason(reason).items(std::mem::take(items)))
        };
        if !self.not_set.is_empty() {
            let message = format!("Source {what}: either `id` or `name` required.");
            condition(Category::Critical, reasons::NOT_SET, message, &mut self.not_set)
        } else if !self.ambiguous.is_empty() {
            let message = format!("Source {what} has ambiguous ref: name it by id.");
            condition(Category::Critical, reasons::AMBIGUOUS, message, &mut self.ambiguous)
        } else if !self.unknown.is_empty() {
            let message = format!("Source {what} cannot be looked up: the inventory is being loaded.");
            condition(Category::Critical, reasons::STARTED, message, &mut self.unknown)
        } else if !self.not_found.is_empty() {
            // A warning only, so that one map can serve several plans while sources come and go.
            let message = format!("Source {what} not found.");
            condition(Category::Warn, reasons::NOT_FOUND, message, &mut self.not_found)
        } else {
            None
        }
    }
}

/// Checks both providers of a map or a plan. The providers come back when both can be used.
pub fn check_pair(context: &Context, pair: &ProviderPair) -> (Vec<Condition>, Option<(Arc<Provider>, Arc<Provider>)>) {
    let mut conditions = Vec::new();
    let source = check_one(context, &pair.source, true, &mut conditions);
    let destination = check_one(context, &pair.destination, false, &mut conditions);
    (conditions, source.zip(destination))
}

fn check_one(
    context: &Context,
    reference: &ObjectReference,
    source: bool,
    conditions: &mut Vec<Condition>,
) -> Option<Arc<Provider>> {
    let (side, not_valid, not_ready) = if source {
        ("source", types::SOURCE_PROVIDER_NOT_VALID, types::SOURCE_PROVIDER_NOT_READY)
    } else {
        ("destination", types::DESTINATION_PROVIDER_NOT_VALID, types::DESTINATION_PROVIDER_NOT_READY)
    };
    let mut say = |type_: &str, reason: &str, message: String| {
        conditions.push(Condition::new(type_, Category::Critical, message).reason(reason));
    };
    let name =
        || format!("{}/{}", reference.namespace.as_deref().unwrap_or(""), reference.name.as_deref().unwrap_or(""));
    if !is_set(reference) {
        say(not_valid, reasons::NOT_SET, format!("The {side} provider is not set."));
        return None;
    }
    let Some(provider) = context.caches.provider(reference) else {
        say(not_valid, reasons::NOT_FOUND, format!("The {side} provider {} was not found.", name()));
        return None;
    };
    if !source && !provider.is(ProviderType::OpenShift) {
        say(
            not_valid,
            reasons::TYPE_NOT_VALID,
            format!("The destination provider {} must be of type openshift.", name()),
        );
        return None;
    }
    if !provider.status.as_ref().is_some_and(|status| status.conditions.is_ready()) {
        say(
            not_ready,
            reasons::NOT_FOUND,
            format!("The {side} provider {} does not have the Ready condition.", name()),
        );
        return None;
    }
    Some(provider)
}

/// Whether a NetworkAttachmentDefinition exists; a cluster without Multus has none.
pub async fn attachment_exists(client: &Client, namespace: &str, name: &str) -> Result<bool, kube::Error> {
    Ok(attachment(client, namespace, name).await?.is_some())
}

/// Returns the metadata of a NetworkAttachmentDefinition, where it exists.
pub async fn attachment(client: &Client, namespace: &str, name: &str) -> Result<Option<ObjectMeta>, kube::Error> {
    let kind = GroupVersionKind::gvk("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition");
    let resource = ApiResource::from_gvk_with_plural(&kind, "network-attachment-definitions");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.get_metadata(name).await {
        Ok(found) => Ok(Some(found.metadata)),
        // a cluster that does not know the kind answers in plain text, not with a Status
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
