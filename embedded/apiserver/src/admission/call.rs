//! Asking one webhook.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::hooks::Hook;
use super::{Asked, client, conditions, internal, matching, request};
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::server::Server;

/// Reasons that clients know; another one is not passed on.
const REASONS: &[&str] = &[
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "AlreadyExists",
    "Conflict",
    "Gone",
    "Invalid",
    "ServerTimeout",
    "Timeout",
    "TooManyRequests",
    "BadRequest",
    "MethodNotAllowed",
    "NotAcceptable",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "InternalError",
    "Expired",
    "ServiceUnavailable",
];

/// Asks a mutating webhook. None: it does not see the request. Some(None): it changes nothing.
pub async fn mutate(server: &Arc<Server>, hook: &Hook, asked: &Asked<'_>) -> ApiResult<Option<Option<Value>>> {
    let Some((request, response)) = ask(server, hook, asked).await? else { return Ok(None) };
    let Some(response) = response else { return Ok(Some(None)) };
    let patch = meta::text(&response, "/patch");
    if patch.is_empty() {
        return Ok(Some(None));
    }
    let apply = || -> Result<Value, String> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(patch).map_err(|e| e.to_string())?;
        let kind = meta::text(&response, "/patchType");
        if kind != "JSONPatch" {
            return Err(format!("webhook returned response.patchType={kind:?}, expected \"JSONPatch\""));
        }
        let patch: json_patch::Patch = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let mut object = request.get("object").cloned().unwrap_or_default();
        json_patch::patch(&mut object, &patch).map_err(|e| e.to_string())?;
        Ok(object)
    };
    let object = apply().map_err(internal)?;
    // the webhook saw the object in a version of its own
    let seen = server.registry.find(
        meta::text(&request, "/resource/group"),
        meta::text(&request, "/resource/version"),
        meta::text(&request, "/resource/resource"),
    );
    let own = &asked.context.resource;
    match seen.filter(|r| r.version != own.version || r.group != own.group) {
        Some(seen) => crate::convert::between(object, &seen, own).await.map(|o| Some(Some(o))),
        None => Ok(Some(Some(object))),
    }
}

/// Asks a validating webhook.
pub async fn validate(server: &Arc<Server>, hook: &Hook, asked: &Asked<'_>) -> ApiResult<()> {
    let answer = ask(server, hook, asked).await?;
    if let Some((_, Some(response))) = answer
        && response.get("patch").is_some_and(|p| !p.is_null())
    {
        tracing::warn!(webhook = hook.name, "a validating webhook answered with a patch, which is ignored");
    }
    Ok(())
}

/// The request that was sent and the response, if it came; None when the webhook does not see the request.
async fn ask(server: &Arc<Server>, hook: &Hook, asked: &Asked<'_>) -> ApiResult<Option<(Value, Option<Value>)>> {
    let Some(resource) = matching::seen_as(server, &hook.when, asked) else { return Ok(None) };
    let request = request(asked, &resource).await?;
    if !hook.conditions.is_empty() {
        let variables = conditions::variables(server, &asked.context.user, &request);
        match conditions::hold(&hook.conditions, &variables) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) if hook.ignore_failure => return Ok(None),
            Err(why) => {
                let context = asked.context;
                let (group, plural) = (&context.resource.group, &context.resource.plural);
                let name = meta::text(&request, "/name");
                return Err(ApiError::forbidden(group, plural, name, &why));
            }
        }
    }
    if asked.dry_run && !hook.dry_run {
        return Err(ApiError::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)));
    }
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
    let answer = client::call(&server.store, &server.hook_clients, &hook.client, &review, hook.timeout).await;
    let response = match answer.and_then(|a| read(a, &request)) {
        Ok(response) => response,
        Err(why) if hook.ignore_failure => {
            tracing::warn!(webhook = hook.name, why, "a webhook failed, which its policy ignores");
            return Ok(Some((request, None)));
        }
        Err(why) => return Err(internal(format_args!("failed calling webhook {:?}: {why}", hook.name))),
    };
    for warning in response.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        asked.context.warn(warning.as_str().unwrap_or_default());
    }
    for (key, value) in response.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten() {
        asked.context.annotate(format!("{}/{key}", hook.name), value.as_str().unwrap_or_default());
    }
    if response.get("allowed").and_then(Value::as_bool) == Some(true) {
        return Ok(Some((request, Some(response))));
    }
    Err(denied(&hook.name, response.get("status")))
}

/// Checks that the answer is one to this request.
fn read(mut answer: Value, request: &Value) -> Result<Value, String> {
    let of = |pointer: &str| meta::text(&answer, pointer).to_string();
    if of("/apiVersion") != "admission.k8s.io/v1" || of("/kind") != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
            of("/apiVersion"),
            of("/kind")
        ));
    }
    let response = answer.get_mut("response").map(Value::take).filter(Value::is_object);
    let Some(response) = response else { return Err("webhook response was absent".into()) };
    let (uid, sent) = (meta::text(&response, "/uid"), meta::text(request, "/uid"));
    if uid != sent {
        return Err(format!("expected response.uid={sent:?}, got {uid:?}"));
    }
    Ok(response)
}

/// What the client is told when a webhook refuses.
fn denied(name: &str, status: Option<&Value>) -> ApiError {
    let of = |field: &str| status.map(|s| meta::text(s, &format!("/{field}"))).unwrap_or_default();
    let by = format!("admission webhook {name:?} denied the request");
    let message = match (of("message"), of("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = status.and_then(|s| s.get("code")).and_then(Value::as_u64).unwrap_or(0);
    let mut error = ApiError::bad_request(message);
    error.code = u16::try_from(code).ok().filter(|c| (400..600).contains(c)).unwrap_or(400);
    error.reason = REASONS.iter().find(|r| **r == of("reason")).copied().unwrap_or(crate::error::NO_REASON);
    error.details = status.and_then(|s| s.get("details")).filter(|d| !d.is_null()).cloned();
    error
}
