//! ResourceQuota: how many objects a namespace may have, and how much they may ask for together.
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>
//!
//! What is used is counted from the stored objects each time; a namespace with quotas makes one object at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use tokio::sync::OwnedMutexGuard;

use super::{Asked, Operation};
use crate::cel::Quantity;
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::registry::Resource;
use crate::request::Context;
use crate::server::Server;
use crate::storage::Object;

const QUOTAS: &str = "/resourcequotas";
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Resources of the core group that are counted by their own name.
const COUNTED: &[&str] = &[
    "pods",
    "services",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
];

/// One lock for each namespace that has quotas.
#[derive(Default)]
pub struct Turns {
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// The turn to make an object in a namespace with quotas; None where there are none.
pub async fn turn(server: &Server, context: &Context) -> Option<OwnedMutexGuard<()>> {
    let namespace = &context.target.namespace;
    if namespace.is_empty() || server.store.list(QUOTAS, Some(namespace)).0.is_empty() {
        return None;
    }
    let lock = {
        let mut locks = server.admission.turns.locks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        locks.entry(namespace.clone()).or_default().clone()
    };
    Some(lock.lock_owned().await)
}

/// The stored objects that an entry of a quota is about.
fn subject(key: &str) -> String {
    if let Some(rest) = key.strip_prefix("count/") {
        let (plural, group) = rest.split_once('.').unwrap_or((rest, ""));
        return format!("{group}/{plural}");
    }
    match key {
        "requests.storage" => "/persistentvolumeclaims".into(),
        key if key.contains(BY_CLASS) => "/persistentvolumeclaims".into(),
        "services.loadbalancers" | "services.nodeports" => "/services".into(),
        key if COUNTED.contains(&key) => format!("/{key}"),
        _ => "/pods".into(),
    }
}

/// How much of an entry an object takes.
fn share(key: &str, object: &Value) -> Quantity {
    let one = Quantity::of(1);
    let text = |pointer: &str| meta::text(object, pointer);
    let storage = || Quantity::parse(text("/spec/resources/requests/storage")).unwrap_or_default();
    if let Some((class, what)) = key.split_once(BY_CLASS) {
        return match (text("/spec/storageClassName") == class, what) {
            (true, "requests.storage") => storage(),
            (true, _) => one,
            (false, _) => Quantity::default(),
        };
    }
    let ended = || matches!(text("/status/phase"), "Succeeded" | "Failed");
    let when = |holds: bool| if holds { one } else { Quantity::default() };
    match key {
        "requests.storage" => storage(),
        "services.loadbalancers" => when(text("/spec/type") == "LoadBalancer"),
        "services.nodeports" => when(matches!(text("/spec/type"), "NodePort" | "LoadBalancer")),
        "pods" => when(!ended()),
        key if key.starts_with("count/") || COUNTED.contains(&key) => one,
        _ if ended() => Quantity::default(),
        key => of_containers(key, object),
    }
}

/// `cpu`, `requests.memory`, `limits.cpu`: all containers together, or the largest init container.
fn of_containers(key: &str, pod: &Value) -> Quantity {
    let (part, name) = match key.split_once('.') {
        Some(("limits", name)) => ("limits", name),
        Some(("requests", name)) => ("requests", name),
        _ => ("requests", key),
    };
    let each = |list: &str| -> Vec<Quantity> {
        let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array).into_iter().flatten();
        let asked =
            containers.map(|c| c.pointer(&format!("/resources/{part}")).map(|r| meta::text(r, &format!("/{name}"))));
        asked.map(|text| text.and_then(Quantity::parse).unwrap_or_default()).collect()
    };
    let together = each("containers").into_iter().fold(Quantity::default(), Quantity::plus);
    each("initContainers").into_iter().fold(together, Ord::max)
}

fn used(server: &Server, namespace: &str, key: &str) -> Quantity {
    let (objects, _) = server.store.list(&subject(key), Some(namespace));
    if key.starts_with("count/") || COUNTED.contains(&key) && key != "pods" {
        return Quantity::of(i64::try_from(objects.len()).unwrap_or(i64::MAX));
    }
    objects.iter().map(|o| share(key, &o.value())).fold(Quantity::default(), Quantity::plus)
}

fn hard(quota: &Object) -> Map<String, Value> {
    let value = quota.value();
    // a quota for some objects only is not understood here, and does not count
    let scoped = value.pointer("/spec/scopes").is_some() || value.pointer("/spec/scopeSelector").is_some();
    value.pointer("/spec/hard").and_then(Value::as_object).filter(|_| !scoped).cloned().unwrap_or_default()
}

/// Refuses what a quota has no room for.
pub fn check(server: &Server, asked: &Asked<'_>) -> ApiResult<()> {
    let context = asked.context;
    let Some(object) = asked.object.filter(|_| context.target.subresource.is_empty()) else { return Ok(()) };
    if !matches!(asked.operation, Operation::Create | Operation::Update) || context.target.namespace.is_empty() {
        return Ok(());
    }
    let namespace = &context.target.namespace;
    for quota in server.store.list(QUOTAS, Some(namespace)).0 {
        let mut over: Vec<(String, Quantity, Quantity, String)> = Vec::new();
        for (key, limit) in hard(&quota) {
            let Some(most) = Quantity::parse(limit.as_str().unwrap_or_default()) else { continue };
            if !concerns(&context.resource, &key) {
                continue;
            }
            let before = asked.old.map(|old| share(&key, old)).unwrap_or_default();
            let wanted = share(&key, object).minus(before);
            let taken = used(server, namespace, &key);
            if wanted > Quantity::default() && taken.plus(wanted) > most {
                over.push((key, wanted, taken, limit.as_str().unwrap_or_default().into()));
            }
        }
        if over.is_empty() {
            continue;
        }
        over.sort_by(|a, b| a.0.cmp(&b.0));
        let list = |show: &dyn Fn(&(String, Quantity, Quantity, String)) -> String| {
            over.iter().map(|o| format!("{}={}", o.0, show(o))).collect::<Vec<_>>().join(",")
        };
        let why = format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            quota.key.name,
            list(&|o| o.1.to_string()),
            list(&|o| o.2.to_string()),
            list(&|o| o.3.clone()),
        );
        let (group, plural) = (&context.resource.group, &context.resource.plural);
        return Err(ApiError::forbidden(group, plural, meta::name(object), &why));
    }
    Ok(())
}

fn concerns(resource: &Resource, key: &str) -> bool {
    *resource.storage == *subject(key)
}

/// The status that a quota should show; None when it shows it already.
pub fn status(server: &Server, quota: &Object) -> Option<Value> {
    let hard = hard(quota);
    let used: Map<String, Value> =
        hard.keys().map(|key| (key.clone(), used(server, &quota.key.namespace, key).to_string().into())).collect();
    let wanted = serde_json::json!({"hard": hard, "used": used});
    (quota.value().get("status") != Some(&wanted)).then_some(wanted)
}
