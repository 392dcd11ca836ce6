//! What single built-in kinds need beyond their schema: derived fields, status at birth, what may not change.

mod account_token;
mod admission;
mod claims;
mod crds;
mod events;
mod jobs;
pub mod metadata;
mod plain;
mod pod_spec;
mod pods;
mod quantity;
mod services;
mod workloads;

use serde_json::Value;

use crate::error::Cause;
use crate::registry::Resource;
use crate::request::Context;
use crate::server::Server;

/// The rules of one kind. What is None is not special.
#[derive(Default)]
pub(crate) struct Rules {
    /// Completes a new object.
    pub prepare_create: Option<fn(&Server, &Context, &mut Value)>,
    /// Completes a changed object; the old one comes first.
    pub prepare_update: Option<fn(&Server, &Value, &mut Value)>,
    /// Objects to a new or changed object.
    pub validate: Option<fn(&Server, &Value) -> Vec<Cause>>,
    /// Objects to a change.
    pub validate_update: Option<fn(&Context, &Value, &Value) -> Vec<Cause>>,
}

fn rules(resource: &Resource) -> Option<&'static Rules> {
    if resource.custom {
        return None;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => Some(&pods::RULES),
        ("", "limitranges") => Some(&plain::LIMIT_RANGES),
        ("", "services") => Some(&services::RULES),
        ("", "secrets") => Some(&plain::SECRETS),
        ("", "configmaps") => Some(&plain::CONFIG_MAPS),
        ("", "namespaces") => Some(&plain::NAMESPACES),
        ("", "persistentvolumeclaims") => Some(&claims::CLAIMS),
        ("", "persistentvolumes") => Some(&claims::VOLUMES),
        ("storage.k8s.io", "storageclasses") => Some(&claims::CLASSES),
        ("", "events") => Some(&events::EVENTS),
        ("events.k8s.io", "events") => Some(&events::NEW_EVENTS),
        ("coordination.k8s.io", "leases") => Some(&events::LEASES),
        ("policy", "poddisruptionbudgets") => Some(&plain::BUDGETS),
        ("batch", "jobs") => Some(&jobs::JOBS),
        ("batch", "cronjobs") => Some(&jobs::CRON_JOBS),
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => Some(&workloads::RULES),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => Some(&plain::BINDINGS),
        ("apiextensions.k8s.io", "customresourcedefinitions") => Some(&crds::RULES),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            Some(&admission::HOOKS)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => Some(&admission::POLICIES),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => Some(&admission::BINDINGS),
        _ => None,
    }
}

/// What reading a kind does besides: fields that can only be written become those that are kept, before any webhook
/// looks at them.
pub fn decoded(resource: &Resource, value: &mut Value) {
    if resource.is("", "secrets") {
        plain::encode_strings(value);
    }
}

/// Completes a new object.
pub fn prepare_create(server: &Server, context: &Context, value: &mut Value) {
    if let Some(prepare) = rules(&context.resource).and_then(|r| r.prepare_create) {
        prepare(server, context, value);
    }
}

/// Completes a changed object.
pub fn prepare_update(server: &Server, context: &Context, old: &Value, value: &mut Value) {
    if context.target.subresource == "status" && context.resource.is("", "pods") {
        pods::complete_status(value);
    }
    if matches!(context.target.subresource.as_str(), "status" | "finalize" | "binding" | "ephemeralcontainers") {
        return;
    }
    if let Some(prepare) = rules(&context.resource).and_then(|r| r.prepare_update) {
        prepare(server, old, value);
    }
}

/// Why a new object is refused whatever is in it.
pub fn refuse_create(server: &Server, context: &Context, value: &Value) -> crate::error::ApiResult<()> {
    if !context.resource.is("", "pods") {
        return Ok(());
    }
    if pods::has_wrong_amount(value) {
        return Err(crate::error::ApiError::bad_request(format!(
            "Pod in version \"v1\" cannot be handled as a Pod: {}",
            claims::QUANTITY_RULE
        )));
    }
    let account = crate::meta::text(value, "/spec/serviceAccountName");
    // the default account may still be on its way in a new namespace
    if matches!(account, "" | "default") {
        return Ok(());
    }
    let namespace = &context.target.namespace;
    let key = crate::storage::Key::new(&"/serviceaccounts".into(), namespace, account);
    if server.store.get(&key).is_some() {
        return Ok(());
    }
    let why = format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found");
    Err(crate::error::ApiError::forbidden("", "pods", crate::meta::name(value), &why))
}

/// What is wrong with a new object.
pub fn validate_create(server: &Server, context: &Context, value: &Value) -> Vec<Cause> {
    rules(&context.resource).and_then(|r| r.validate).map(|check| check(server, value)).unwrap_or_default()
}

/// What is wrong with a changed object.
pub fn validate_update(server: &Server, context: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = metadata::validate_update(old, value);
    if matches!(context.target.subresource.as_str(), "status" | "finalize" | "binding" | "ephemeralcontainers") {
        return causes;
    }
    if let Some(rules) = rules(&context.resource) {
        causes.extend(rules.validate.map(|check| check(server, value)).unwrap_or_default());
        causes.extend(rules.validate_update.map(|check| check(context, old, value)).unwrap_or_default());
    }
    causes
}

/// Seconds between deletion and end.
pub fn grace(resource: &Resource, value: &Value, asked: Option<i64>) -> i64 {
    if !resource.is("", "pods") {
        return 0;
    }
    // nothing runs yet, or any more
    let idle = crate::meta::text(value, "/spec/nodeName").is_empty()
        || matches!(crate::meta::text(value, "/status/phase"), "Succeeded" | "Failed");
    if idle {
        return 0;
    }
    asked.or_else(|| value.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64)).unwrap_or(30).max(0)
}

/// Whether a deleted object without finalizers may go when it is next written.
pub fn may_vanish(resource: &Resource, value: &Value) -> bool {
    let waits = value.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0;
    !waits && may_vanish_at_delete(resource, value)
}

/// Whether a deletion takes effect at once when there are no finalizers.
pub fn may_vanish_at_delete(resource: &Resource, value: &Value) -> bool {
    !resource.is("", "namespaces")
        || value.pointer("/spec/finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// What a kind shows while it is going away.
pub fn on_delete(resource: &Resource, value: &mut Value) {
    if resource.is("", "namespaces") {
        crate::meta::object_mut(value, "status").insert("phase".into(), "Terminating".into());
    }
}
