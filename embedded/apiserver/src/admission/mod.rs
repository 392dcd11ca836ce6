//! Admission: webhooks and policies look at a request after it was authorized and before it is stored.
//!
//! ```text
//!   object ─► mutating webhooks, by name, one after the other (again where others changed the object)
//!          ─► the server's own checks ─► validating webhooks, all at once, and policies ─► store
//! ```
//! Semantics: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

mod call;
mod client;
pub mod conditions;
mod hooks;
pub mod limits;
mod matching;
pub mod policies;
pub mod quotas;
mod validate;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::registry::Resource;
use crate::request::Context;
use crate::server::Server;
use crate::{convert, meta, schema};

pub use client::{Clients, call as call_client};
pub use validate::validate_client;

use hooks::Hooks;

const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Somebody connects to it.
    Connect,
}

impl Operation {
    /// As reviews name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What admission remembers between requests.
#[derive(Default)]
pub struct Admission {
    mutating: Hooks,
    validating: Hooks,
    policies: policies::Policies,
    turns: quotas::Turns,
}

/// One request, as admission sees it.
pub struct Asked<'a> {
    /// The request.
    pub context: &'a Context,
    /// What is done.
    pub operation: Operation,
    /// The new object.
    pub object: Option<&'a Value>,
    /// The object as it is.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// Requests that no webhook and no policy sees: their own configurations, and what the server asks of itself.
fn exempt(context: &Context) -> bool {
    const OWN: &[&str] = &[
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ];
    context.user.name == "system:apiserver"
        || context.resource.group == "admissionregistration.k8s.io" && OWN.contains(&context.resource.plural.as_str())
}

/// Lets the mutating webhooks change the object.
pub async fn mutate(
    server: &Arc<Server>,
    context: &Context,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> ApiResult<()> {
    if exempt(context) {
        return Ok(());
    }
    limits::fill(server, context, operation, object);
    let configurations = server.admission.mutating.all(&server.store, MUTATING);
    if configurations.is_empty() {
        return Ok(());
    }
    let dry_run = context.params.dry_run()?;
    let hooks: Vec<&hooks::Hook> = configurations.iter().flat_map(|c| c.iter()).collect();
    let mut after: Vec<Option<Value>> = vec![None; hooks.len()];
    for round in 0..2 {
        for (hook, after) in hooks.iter().zip(&mut after) {
            // the second round is for those whose object was changed since
            let again = hook.reinvoke && after.as_ref().is_some_and(|seen| seen != object);
            if round == 1 && !again {
                continue;
            }
            let new = (!object.is_null()).then_some(&*object);
            let asked = Asked { context, operation, object: new, old, dry_run };
            let Some(patched) = call::mutate(server, hook, &asked).await? else { continue };
            if let Some(value) = patched {
                *object = value;
                settle(context, object);
            }
            *after = Some(object.clone());
        }
    }
    Ok(())
}

/// A patched object is read as a request's is.
fn settle(context: &Context, object: &mut Value) {
    if matches!(context.target.subresource.as_str(), "" | "status") {
        let shape = context.resource.schema();
        schema::prune(object, shape);
        schema::apply_defaults(object, shape);
    }
}

/// Lets the validating webhooks and the policies refuse the request.
pub async fn validate(
    server: &Arc<Server>,
    context: &Context,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
    dry_run: bool,
) -> ApiResult<()> {
    if exempt(context) {
        return Ok(());
    }
    let asked = Asked { context, operation, object, old, dry_run };
    limits::check(server, context, operation, object)?;
    policies::check(server, &asked)?;
    let configurations = server.admission.validating.all(&server.store, VALIDATING);
    let hooks = configurations.iter().flat_map(|c| c.iter());
    let answers = futures::future::join_all(hooks.map(|hook| call::validate(server, hook, &asked))).await;
    answers.into_iter().collect::<ApiResult<()>>()?;
    quotas::check(server, &asked)
}

/// Lets webhooks refuse a connection to a subresource; `options` is what the client asked of it.
pub async fn connect(server: &Arc<Server>, context: &Context, options: &Value) -> ApiResult<()> {
    let mut object = options.clone();
    mutate(server, context, Operation::Connect, &mut object, None).await?;
    validate(server, context, Operation::Connect, Some(&object), None, false).await
}

/// The object in another version of its resource.
async fn in_version(value: Option<&Value>, from: &Resource, to: &Resource) -> ApiResult<Option<Value>> {
    let Some(value) = value else { return Ok(None) };
    if from.version == to.version && from.group == to.group {
        return Ok(Some(value.clone()));
    }
    convert::between(value.clone(), from, to).await.map(Some)
}

/// `CreateOptions` and its like as reviews carry them.
fn options(asked: &Asked<'_>) -> Value {
    // a patch is shown as what it comes to
    let kind = match asked.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    let params = &asked.context.params;
    for (name, wanted) in [("fieldManager", true), ("fieldValidation", asked.operation != Operation::Delete)] {
        if wanted && !params.text(name).is_empty() {
            options[name] = params.text(name).into();
        }
    }
    if asked.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

/// The request part of an admission review, about the resource as `seen` has it.
async fn request(asked: &Asked<'_>, seen: &Resource) -> ApiResult<Value> {
    if !matches!(asked.context.target.subresource.as_str(), "" | "status") {
        return Ok(request_now(asked));
    }
    let own = &asked.context.resource;
    let object = in_version(asked.object, own, seen).await?;
    let old = in_version(asked.old, own, seen).await?;
    Ok(review(asked, seen, object, old))
}

/// The request part of a review, about the resource as the request has it.
fn request_now(asked: &Asked<'_>) -> Value {
    review(asked, &asked.context.resource, asked.object.cloned(), asked.old.cloned())
}

fn review(asked: &Asked<'_>, seen: &Resource, object: Option<Value>, old: Option<Value>) -> Value {
    let context = asked.context;
    let subresource = context.target.subresource.as_str();
    // the object of a subresource such as scale has a kind of its own
    let other = object.as_ref().or(old.as_ref()).filter(|_| !matches!(subresource, "" | "status"));
    let other = other.map(|value| {
        let text = meta::text(value, "/apiVersion");
        let (group, version) = text.rsplit_once('/').unwrap_or(("", text));
        json!({"group": group, "version": version, "kind": meta::text(value, "/kind")})
    });
    let kind_of =
        |r: &Resource| other.clone().unwrap_or_else(|| json!({"group": r.group, "version": r.version, "kind": r.kind}));
    let resource_of = |r: &Resource| json!({"group": r.group, "version": r.version, "resource": r.plural});
    let name = match context.target.name.as_str() {
        "" => asked.object.map(meta::name).unwrap_or_default(),
        name => name,
    };
    let mut request = json!({
        "uid": uuid::Uuid::new_v4().to_string(),
        "kind": kind_of(seen),
        "resource": resource_of(seen),
        "requestKind": kind_of(&context.resource),
        "requestResource": resource_of(&context.resource),
        "name": name,
        "operation": asked.operation.name(),
        "userInfo": context.user.info(),
        "object": object,
        "oldObject": old,
        "dryRun": asked.dry_run,
        "options": options(asked),
    });
    let namespace = if context.resource.is("", "namespaces") { name } else { context.target.namespace.as_str() };
    if !namespace.is_empty() {
        request["namespace"] = namespace.into();
    }
    if !subresource.is_empty() {
        request["subResource"] = subresource.into();
        request["requestSubResource"] = subresource.into();
    }
    request
}

/// A webhook that failed, or answered with what cannot be used.
fn internal(why: impl std::fmt::Display) -> ApiError {
    let mut error = ApiError::internal(&why);
    error.details = Some(json!({"causes": [{"message": why.to_string()}]}));
    error
}
