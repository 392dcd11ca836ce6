//! get and list.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::output;
use crate::error::{ApiError, ApiResult};
use crate::request::Context;
use crate::selector::Selector;
use crate::server::Server;
use crate::storage::{Compacted, Key, Object};

/// The object of the request.
pub fn find(server: &Server, context: &Context) -> ApiResult<Arc<Object>> {
    let key = Key::new(&context.resource.storage, &context.target.namespace, &context.target.name);
    server.store.get(&key).ok_or_else(|| context.not_found())
}

/// GET of one object.
pub fn get(server: &Server, context: &Context) -> ApiResult<Response> {
    let object = find(server, context)?;
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
    text.parse().map(Some).map_err(|_| ApiError::bad_request(format!("invalid resource version: {text:?}")))
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
pub fn list(server: &Server, context: &Context) -> ApiResult<Response> {
    let selector = selector(context)?;
    let params = &context.params;
    let limit = params.number("limit")?.and_then(|l| usize::try_from(l).ok()).filter(|l| *l > 0);
    let token = params.text("continue");
    let asked = revision(params.text("resourceVersion"))?;
    let matching = params.text("resourceVersionMatch");
    match matching {
        "" | "Exact" | "NotOlderThan" => {}
        other => {
            return Err(ApiError::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            )));
        }
    }
    if !matching.is_empty() && asked.is_none() {
        return Err(ApiError::bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }
    let storage = &context.resource.storage;
    let current = server.store.revision();
    if asked.is_some_and(|a| a > current) {
        return Err(too_new(asked.unwrap_or(0), current));
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
    Ok(output::list(context, &objects, metadata))
}
