//! delete and deletecollection: preconditions, grace periods, propagation, finalizers.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{output, read};
use crate::admission::Operation;
use crate::error::{ApiError, ApiResult, Cause};
use crate::request::Context;
use crate::server::Server;
use crate::storage::{Key, Object, WriteError};
use crate::{admission, convert, meta, registry, resources};

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They go afterwards.
    Background,
    /// They go first.
    Foreground,
    /// They stay, without owner.
    Orphan,
}

/// Options of one deletion.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    /// Seconds to wait; None for the object's own.
    pub grace: Option<i64>,
    /// None for the resource's own.
    pub propagation: Option<Propagation>,
    /// UID that the object must have.
    pub uid: Option<String>,
    /// Resource version that the object must have.
    pub resource_version: Option<String>,
    /// Store nothing.
    pub dry_run: bool,
}

impl Deletion {
    /// Reads DeleteOptions from body and query.
    pub fn decode(context: &Context, body: &[u8]) -> ApiResult<Self> {
        let options: Value = if body.iter().all(u8::is_ascii_whitespace) {
            Value::Null
        } else {
            super::pipeline::decode(context, body)?
        };
        Self::from_options(context, &options)
    }

    /// Reads DeleteOptions and query.
    pub fn from_options(context: &Context, options: &Value) -> ApiResult<Self> {
        let text = |pointer: &str| options.pointer(pointer).and_then(Value::as_str).map(String::from);
        let named = text("/propagationPolicy")
            .or_else(|| Some(context.params.text("propagationPolicy").to_string()).filter(|p| !p.is_empty()));
        if named.is_some() && options.get("orphanDependents").is_some_and(|o| !o.is_null()) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            return Err(wrong_options(Cause::invalid("propagationPolicy", &json!(named), why)));
        }
        let propagation = match named.as_deref() {
            None => match options.get("orphanDependents").and_then(Value::as_bool) {
                Some(true) => Some(Propagation::Orphan),
                Some(false) => Some(Propagation::Background),
                None => None,
            },
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"].map(String::from);
                return Err(wrong_options(Cause::unsupported("propagationPolicy", &other.into(), &known)));
            }
        };
        let grace = options.get("gracePeriodSeconds").and_then(Value::as_i64);
        let dry = options.get("dryRun").and_then(Value::as_array).is_some_and(|d| !d.is_empty());
        Ok(Self {
            grace: if grace.is_some() { grace } else { context.params.number("gracePeriodSeconds")? },
            propagation,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: dry || context.params.dry_run()?,
        })
    }
}

const KEEPS_PODS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

impl Deletion {
    /// Fills in what the kind does with dependents when nothing is said: jobs and replication controllers leave theirs.
    fn completed(mut self, context: &Context) -> Self {
        let leaves = context.resource.is("batch", "jobs") || context.resource.is("", "replicationcontrollers");
        if self.propagation.is_none() && leaves {
            self.propagation = Some(Propagation::Orphan);
            if context.resource.is("batch", "jobs") {
                context.warn(KEEPS_PODS);
            }
        }
        self
    }
}

fn wrong_options(cause: Cause) -> ApiError {
    ApiError::invalid("meta.k8s.io", "DeleteOptions", "", vec![cause])
}

/// What became of an object.
pub enum Outcome {
    /// It is gone.
    Gone(Arc<Object>),
    /// It waits for finalizers or its grace period.
    Waiting(Value),
}

/// DELETE of one object.
pub async fn delete(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let deletion = Deletion::decode(context, body)?.completed(context);
    match delete_object(server, context, &deletion).await? {
        Outcome::Gone(object) => {
            let mut details = json!({"name": object.key.name, "kind": context.resource.plural, "uid": object.uid});
            if !context.resource.group.is_empty() {
                details["group"] = context.resource.group.clone().into();
            }
            if answers_object(&context.resource) {
                return Ok(output::stored(context, StatusCode::OK, &object));
            }
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            Ok(output::json_response(StatusCode::OK, status.to_string()))
        }
        Outcome::Waiting(value) => Ok(output::object(context, StatusCode::OK, &value)),
    }
}

/// Kinds whose deletion is answered with the object; the others answer a Status.
fn answers_object(resource: &registry::Resource) -> bool {
    matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        (
            "",
            "pods"
                | "services"
                | "serviceaccounts"
                | "podtemplates"
                | "resourcequotas"
                | "persistentvolumes"
                | "persistentvolumeclaims"
        ) | ("storage.k8s.io", "storageclasses" | "csidrivers" | "csinodes")
    )
}

/// DELETE of a collection.
pub async fn delete_collection(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let deletion = Deletion::decode(context, body)?.completed(context);
    let selector = read::selector(context)?;
    let (objects, revision) = server.store.list(&context.resource.storage, read::namespace(context));
    let chosen: Vec<Arc<Object>> = objects.into_iter().filter(|o| selector.matches(o)).collect();
    for object in &chosen {
        let mut one = Context::internal(context.resource.clone(), &object.key.namespace, &object.key.name);
        one.user = context.user.clone();
        match delete_object(server, &one, &deletion).await {
            Ok(_) => {}
            Err(error) if error.reason == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    convert::learn(&context.resource, &chosen).await?;
    Ok(output::list(context, &chosen, json!({"resourceVersion": revision.to_string()})))
}

/// Deletes the object of the context, or starts its deletion.
pub async fn delete_object(server: &Arc<Server>, context: &Context, deletion: &Deletion) -> ApiResult<Outcome> {
    let (group, plural, name) = (&context.resource.group, &context.resource.plural, &context.target.name);
    if context.resource.is("", "namespaces") && matches!(name.as_str(), "default" | "kube-system" | "kube-public") {
        return Err(ApiError::forbidden(group, plural, name, "this namespace may not be deleted"));
    }
    let key = Key::new(&context.resource.storage, &context.target.namespace, name);
    for _ in 0..50 {
        let object = server.store.get(&key).ok_or_else(|| context.not_found())?;
        let precondition = |what: &str, wanted: &str, is: &str, perhaps: &str| {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {perhaps}"
            );
            // the kind where other conflicts have the resource, as Kubernetes has it here
            ApiError::conflict(group, &context.resource.kind, name, &why)
        };
        if let Some(uid) = deletion.uid.as_ref().filter(|uid| **uid != object.uid) {
            return Err(precondition("UID", uid, &object.uid, "deleted and then recreated"));
        }
        if let Some(wanted) = deletion.resource_version.as_ref().filter(|rv| **rv != object.revision.to_string()) {
            return Err(precondition("ResourceVersion", wanted, &object.revision.to_string(), "modified"));
        }
        convert::learn(&context.resource, std::slice::from_ref(&object)).await?;
        ask(server, context, &object, deletion.dry_run).await?;
        let old = object.value();
        let mut value = old.clone();
        let waits = mark(&context.resource, &mut value, deletion);
        if deletion.dry_run {
            convert::to_served(&mut value, &context.resource);
            return Ok(Outcome::Waiting(value));
        }
        if waits && value == old {
            convert::to_served(&mut value, &context.resource);
            return Ok(Outcome::Waiting(value));
        }
        let written = if waits {
            server.store.replace(key.clone(), object.revision, value).await
        } else {
            server.store.delete(key.clone(), object.revision, value).await
        };
        match written {
            Ok(object) => {
                super::pipeline::after_write(server, &object);
                convert::learn(&context.resource, std::slice::from_ref(&object)).await?;
                return Ok(if waits {
                    Outcome::Waiting(output::served(&context.resource, &object))
                } else {
                    Outcome::Gone(object)
                });
            }
            Err(WriteError::Conflict) => {}
            Err(error) => return Err(ApiError::from_write(error, group, plural, name)),
        }
    }
    Err(ApiError::modified(group, plural, name))
}

/// Lets webhooks and policies refuse the deletion.
async fn ask(server: &Arc<Server>, context: &Context, object: &Object, dry_run: bool) -> ApiResult<()> {
    // an eviction was asked about as such
    if !context.target.subresource.is_empty() {
        return Ok(());
    }
    let old = output::served(&context.resource, object);
    admission::mutate(server, context, Operation::Delete, &mut Value::Null, Some(&old)).await?;
    admission::validate(server, context, Operation::Delete, None, Some(&old), dry_run).await
}

/// Marks the object as going away; returns whether it has to wait.
fn mark(resource: &registry::Resource, value: &mut Value, deletion: &Deletion) -> bool {
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") && !meta::is_deleting(value) {
        registry::crd::terminate(value);
    }
    let mut finalizers = meta::finalizers(value);
    let (foreground, orphan) = ("foregroundDeletion".to_string(), "orphan".to_string());
    if let Some(propagation) = deletion.propagation {
        finalizers.retain(|f| *f != foreground && *f != orphan);
        match propagation {
            Propagation::Foreground => finalizers.push(foreground),
            Propagation::Orphan => finalizers.push(orphan),
            Propagation::Background => {}
        }
        meta::set_finalizers(value, finalizers.clone());
    }
    let grace = resources::grace(resource, value, deletion.grace);
    let waits = !finalizers.is_empty() || grace > 0 || !resources::may_vanish_at_delete(resource, value);
    if !waits {
        return false;
    }
    let shorter =
        value.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|now| grace < now);
    if !meta::is_deleting(value) || shorter {
        let first = !meta::is_deleting(value);
        let metadata = meta::metadata_mut(value);
        metadata.insert("deletionTimestamp".into(), meta::after(grace).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        if first && let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation".into(), (generation + 1).into());
        }
        resources::on_delete(resource, value);
    }
    true
}
