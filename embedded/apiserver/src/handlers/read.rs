//! get and list.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::output;
use crate::convert;
use crate::error::{ApiError, ApiResult, Cause};
use crate::request::{Context, Params};
use crate::selector::Selector;
use crate::server::Server;
use crate::storage::{Compacted, Key, Object};

/// The object of the request.
pub fn find(server: &Server, context: &Context) -> ApiResult<Arc<Object>> {
    let key = Key::new(&context.resource.storage, &context.target.namespace, &context.target.name);
    server.store.get(&key).ok_or_else(|| context.not_found())
}

/// GET of one object.
pub async fn get(server: &Server, context: &Context) -> ApiResult<Response> {
    reached(server, revision(context.params.text("resourceVersion"))?)?;
    let object = find(server, context)?;
    convert::learn(&context.resource, std::slice::from_ref(&object)).await?;
    Ok(output::stored(context, StatusCode::OK, &object))
}

/// What the list options select.
pub fn selector(context: &Context) -> ApiResult<Selector> {
    let mut fields = context.params.text("fieldSelector").to_string();
    if !context.target.name.is_empty() {
        // a watch of one object by its path
        fields = [fields, format!("metadata.name={}", context.target.name)]
            .iter()
            .filter(|f| !f.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(",");
    }
    Selector::parse(context.params.text("labelSelector"), &fields, &context.resource)
}

/// The namespace to look in; None for all.
pub fn namespace(context: &Context) -> Option<&str> {
    (!context.target.namespace.is_empty()).then_some(context.target.namespace.as_str())
}

/// A revision given by the client.
pub fn revision(text: &str) -> ApiResult<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: it is an unsigned number"
        ))
    })
}

/// Refuses a revision of the future.
pub fn reached(server: &Server, asked: Option<u64>) -> ApiResult<()> {
    let current = server.store.revision();
    match asked {
        Some(asked) if asked > current => Err(too_new(asked, current)),
        _ => Ok(()),
    }
}

/// What list options may not be combined; `watching` tells lists and watches apart.
pub fn check_options(params: &Params, watching: bool) -> ApiResult<()> {
    let matching = params.text("resourceVersionMatch");
    let known: &[&str] = if watching { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
    let known: Vec<String> = known.iter().map(|k| (*k).to_string()).collect();
    let initial = params.has("sendInitialEvents");
    let mut causes = Vec::new();
    let mut forbid = |field: &str, why: &str| causes.push(Cause::forbidden(field, why));
    if watching && initial && matching != "NotOlderThan" {
        forbid("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !watching && initial {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if !matching.is_empty() {
        if watching && !initial {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if !watching && params.text("resourceVersion").is_empty() {
            forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !params.text("continue").is_empty() {
            forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
        }
        if !watching && matching == "Exact" && params.text("resourceVersion") == "0" {
            forbid("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !known.iter().any(|k| k == matching) {
            causes.push(Cause::unsupported("resourceVersionMatch", &matching.into(), &known));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", causes)) }
}

/// 504 for a revision that is not there yet.
pub fn too_new(asked: u64, current: u64) -> ApiError {
    ApiError {
        code: 504,
        reason: "Timeout",
        message: format!("Too large resource version: {asked}, current: {current}"),
        details: Some(
            json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}),
        ),
    }
}

fn expired(asked: u64, compacted: Compacted) -> ApiError {
    ApiError::expired(format!("The resourceVersion for the provided list is too old: {asked} ({})", compacted.oldest))
}

fn encode_continue(revision: u64, last: &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!({"rv": revision, "ns": last.namespace, "name": last.name}).to_string())
}

fn decode_continue(token: &str) -> ApiResult<(u64, String, String)> {
    let read = || -> Option<(u64, String, String)> {
        let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        Some((value["rv"].as_u64()?, value["ns"].as_str()?.to_string(), value["name"].as_str()?.to_string()))
    };
    read().ok_or_else(|| ApiError::bad_request("continue key is not valid"))
}

/// GET of a collection.
pub async fn list(server: &Server, context: &Context) -> ApiResult<Response> {
    let params = &context.params;
    check_options(params, false)?;
    let selector = selector(context)?;
    let limit = params.number("limit")?.and_then(|l| usize::try_from(l).ok()).filter(|l| *l > 0);
    let token = params.text("continue");
    let asked = revision(params.text("resourceVersion"))?;
    let matching = params.text("resourceVersionMatch");
    let storage = &context.resource.storage;
    reached(server, asked)?;
    if !token.is_empty() && asked.is_some_and(|a| a > 0) {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let (mut objects, at) = if !token.is_empty() {
        let (at, ns, name) = decode_continue(token)?;
        let objects = server.store.list_at(storage, namespace(context), at).map_err(|c| {
            let mut error = expired(at, c);
            error.message = "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.".into();
            error
        })?;
        let from = objects
            .partition_point(|o| (o.key.namespace.as_str(), o.key.name.as_str()) <= (ns.as_str(), name.as_str()));
        (objects.into_iter().skip(from).collect(), at)
    } else if let Some(at) = asked.filter(|_| matching == "Exact") {
        (server.store.list_at(storage, namespace(context), at).map_err(|c| expired(at, c))?, at)
    } else {
        server.store.list(storage, namespace(context))
    };
    if !selector.is_empty() {
        objects.retain(|o| selector.matches(o));
    }
    let mut metadata = json!({"resourceVersion": at.to_string()});
    if let Some(limit) = limit
        && objects.len() > limit
    {
        if selector.is_empty() {
            metadata["remainingItemCount"] = (objects.len() - limit).into();
        }
        objects.truncate(limit);
        if let Some(last) = objects.last() {
            metadata["continue"] = encode_continue(at, &last.key).into();
        }
    }
    convert::learn(&context.resource, &objects).await?;
    Ok(output::list(context, &objects, metadata))
}
