//! Subresources of single built-in kinds: token, binding, eviction, finalize.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::patch::Patch;
use super::{Deletion, delete_object, output, pipeline, read};
use crate::admission::{self, Operation};
use crate::auth::token;
use crate::error::{ApiError, ApiResult, Cause};
use crate::meta;
use crate::request::Context;
use crate::server::Server;
use crate::storage::Key;

/// POST serviceaccounts/NAME/token.
pub fn token(server: &Server, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let mut request = pipeline::decode(context, body)?;
    let account = read::find(server, context)?;
    let audiences: Vec<String> = request
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(String::from))
        .collect();
    let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    if seconds < 600 {
        return Err(ApiError::invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            vec![crate::error::Cause::invalid(
                "spec.expirationSeconds",
                &seconds.into(),
                "may not specify a duration less than 10 minutes",
            )],
        ));
    }
    let bound_kind = meta::text(&request, "/spec/boundObjectRef/kind").to_lowercase();
    let bound_name = meta::text(&request, "/spec/boundObjectRef/name").to_string();
    let bound = match bound_kind.as_str() {
        "" => None,
        "pod" | "secret" => {
            let key = Key::new(&format!("/{bound_kind}s").into(), &context.target.namespace, &bound_name);
            Some(
                server
                    .store
                    .get(&key)
                    .ok_or_else(|| ApiError::not_found("", &format!("{bound_kind}s"), &bound_name))?
                    .uid
                    .clone(),
            )
        }
        _ => return Err(ApiError::bad_request(format!("cannot bind token for object of kind {bound_kind:?}"))),
    };
    let now = jiff::Timestamp::now().as_second();
    let bound = bound.as_ref().map(|uid| (bound_kind.as_str(), bound_name.as_str(), uid.as_str()));
    let claims = token::claims(
        &account.key.namespace,
        &account.key.name,
        &account.uid,
        &audiences,
        Some(now + seconds),
        now,
        bound,
    );
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["spec"]["audiences"] = claims["aud"].clone();
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({"token": server.auth.sign(&claims), "expirationTimestamp": meta::after(seconds)});
    let metadata = meta::metadata_mut(&mut request);
    metadata.insert("name".into(), account.key.name.clone().into());
    metadata.insert("namespace".into(), account.key.namespace.clone().into());
    metadata.insert("creationTimestamp".into(), meta::now().into());
    Ok(output::json_response(StatusCode::CREATED, request.to_string()))
}

/// Shows webhooks and policies what is posted to a subresource.
async fn ask(server: &Arc<Server>, context: &Context, posted: &Value) -> ApiResult<()> {
    let mut object = posted.clone();
    admission::mutate(server, context, Operation::Create, &mut object, None).await?;
    let dry_run = context.params.dry_run()?;
    admission::validate(server, context, Operation::Create, Some(&object), None, dry_run).await
}

/// POST pods/NAME/binding: the scheduler's word.
pub async fn bind(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let binding = pipeline::decode(context, body)?;
    let node = meta::text(&binding, "/target/name").to_string();
    if node.is_empty() {
        return Err(ApiError::bad_request("target.name: Required value"));
    }
    ask(server, context, &binding).await?;
    pipeline::change(server, context, |old| {
        let bound = meta::text(old, "/spec/nodeName");
        if !bound.is_empty() {
            return Err(ApiError::conflict(
                "",
                "pods/binding",
                &context.target.name,
                &format!("pod {} is already assigned to node \"{bound}\"", context.target.name),
            ));
        }
        let mut value = old.clone();
        value["spec"]["nodeName"] = node.clone().into();
        let scheduled = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": meta::now(),
        });
        let status = meta::object_mut(&mut value, "status");
        let conditions = status.entry("conditions".to_string()).or_insert_with(|| json!([]));
        if let Value::Array(list) = conditions {
            list.retain(|c| meta::text(c, "/type") != "PodScheduled");
            list.push(scheduled);
        }
        Ok(pipeline::Change { value, applied: false })
    })
    .await?;
    Ok(created())
}

/// The Status that answers what is created and not kept.
fn created() -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    output::json_response(StatusCode::CREATED, status.to_string())
}

/// PUT or PATCH of pods/NAME/ephemeralcontainers: adds containers for looking into a pod that runs.
pub async fn ephemeral_containers(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let wanted = if context.method == http::Method::PUT {
        Ok(pipeline::decode(context, body)?)
    } else {
        Err(Patch::decode(context, body)?)
    };
    let value = pipeline::change(server, context, |old| {
        let new = match &wanted {
            Ok(pod) => pod.clone(),
            Err(patch) => patch.apply(context, old)?,
        };
        let containers = new.pointer("/spec/ephemeralContainers").cloned().unwrap_or_else(|| json!([]));
        let before = old.pointer("/spec/ephemeralContainers").and_then(Value::as_array).cloned().unwrap_or_default();
        if before.iter().any(|b| !containers.as_array().is_some_and(|list| list.contains(b))) {
            let why = "existing ephemeral containers may not be changed or removed";
            return Err(context.invalid(&context.target.name, vec![Cause::forbidden("spec.ephemeralContainers", why)]));
        }
        let mut value = old.clone();
        value["spec"]["ephemeralContainers"] = containers;
        value["metadata"]["resourceVersion"] = new.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
        Ok(pipeline::Change { value, applied: false })
    })
    .await?;
    Ok(output::object(context, StatusCode::OK, &value))
}

/// POST pods/NAME/eviction: a deletion that disruption budgets may refuse.
pub async fn evict(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let eviction = pipeline::decode(context, body)?;
    let pod = read::find(server, context)?.value();
    ask(server, context, &eviction).await?;
    for budget in server.store.list("policy/poddisruptionbudgets", Some(&context.target.namespace)).0 {
        let budget = budget.value();
        let selector = budget.pointer("/spec/selector").cloned().unwrap_or_default();
        let guarded =
            !selector.is_null() && crate::selector::label_selector_matches(&selector, pod.pointer("/metadata/labels"));
        if guarded && budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0) <= 0 {
            let mut error =
                ApiError::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.");
            let count = |field: &str| budget.pointer(&format!("/status/{field}")).and_then(Value::as_i64).unwrap_or(0);
            let why = format!(
                "The disruption budget {} needs {} healthy pods and has {} currently",
                meta::name(&budget),
                count("desiredHealthy"),
                count("currentHealthy")
            );
            error.details = Some(json!({"causes": [{"reason": "DisruptionBudget", "message": why}]}));
            return Err(error);
        }
    }
    let deletion = Deletion::from_options(context, eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    delete_object(server, context, &deletion).await?;
    Ok(created())
}

/// PUT namespaces/NAME/finalize: the only way to change `spec.finalizers`.
pub async fn finalize(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let wanted = pipeline::decode(context, body)?;
    let finalizers = wanted.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
    let value = pipeline::change(server, context, |old| {
        let mut value = old.clone();
        value["spec"]["finalizers"] = finalizers.clone();
        Ok(pipeline::Change { value, applied: false })
    })
    .await?;
    Ok(output::object(context, StatusCode::OK, &value))
}
