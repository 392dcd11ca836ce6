//! patch: JSON patch, merge patch, strategic merge patch and server-side apply.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::{create, output, pipeline, update};
use crate::apply;
use crate::error::{ApiError, ApiResult, Cause};
use crate::meta;
use crate::patch::strategic;
use crate::request::Context;
use crate::server::Server;
use crate::storage::Key;

/// A patch, read from the body.
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, for built-in kinds.
    Strategic(Value),
}

impl Patch {
    /// Reads the patch of the media type.
    pub fn decode(context: &Context, body: &[u8]) -> ApiResult<Self> {
        let wrong = |e: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {e}"));
        match context.content_type.as_str() {
            "application/json-patch+json" => Ok(Self::Json(serde_json::from_slice(body).map_err(wrong)?)),
            "application/merge-patch+json" => Ok(Self::Merge(serde_json::from_slice(body).map_err(wrong)?)),
            "application/strategic-merge-patch+json" if !context.resource.custom => {
                Ok(Self::Strategic(serde_json::from_slice(body).map_err(wrong)?))
            }
            other => Err(ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{} (got {other})",
                if context.resource.custom { "" } else { ", application/strategic-merge-patch+json" }
            ))),
        }
    }

    /// The object after the patch.
    pub fn apply(&self, context: &Context, old: &Value) -> ApiResult<Value> {
        let mut value = old.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut value, patch).map_err(|error| {
                tracing::debug!(%error, name = context.target.name, "a JSON patch does not fit");
                ApiError::unfit_patch()
            })?,
            Self::Merge(patch) => json_patch::merge(&mut value, patch),
            Self::Strategic(patch) => {
                strategic::merge(&mut value, patch, context.resource.schema()).map_err(ApiError::bad_request)?
            }
        }
        Ok(value)
    }
}

/// PATCH.
pub async fn patch(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let apply =
        matches!(context.content_type.as_str(), "application/apply-patch+yaml" | "application/apply-patch+json");
    check_options(context, apply)?;
    if apply {
        return server_side_apply(server, context, body).await;
    }
    let patch = Patch::decode(context, body)?;
    let value = pipeline::change(server, context, |old| {
        let mut value = patch.apply(context, old)?;
        update::check_identity(context, &mut value)?;
        Ok(pipeline::Change { value, applied: false })
    })
    .await?;
    Ok(output::object(context, StatusCode::OK, &value))
}

/// Refuses options that do not fit the kind of patch.
fn check_options(context: &Context, apply: bool) -> ApiResult<()> {
    let manager = context.params.text("fieldManager");
    let mut causes = Vec::new();
    if apply && manager.is_empty() {
        causes.push(Cause::required("fieldManager", "is required for apply patch"));
    }
    if !apply && !context.params.text("force").is_empty() {
        causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
    }
    if manager.len() > 128 {
        let message = "Too long: may not be more than 128 bytes".to_string();
        causes.push(Cause { reason: "FieldValueTooLong", message, field: "fieldManager".into() });
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", causes)) }
}

async fn server_side_apply(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let text = std::str::from_utf8(body).map_err(|e| ApiError::bad_request(format!("the body is not UTF-8: {e}")))?;
    let mut config: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => {
            serde_saphyr::from_str(text).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?
        }
    };
    for field in ["apiVersion", "kind"] {
        if meta::text(&config, &format!("/{field}")).is_empty() {
            return Err(ApiError::bad_request(format!("the configuration has no {field}")));
        }
    }
    pipeline::check_type(&context.resource, &mut config)?;
    let key = Key::new(&context.resource.storage, &context.target.namespace, &context.target.name);
    // an object that is there has its name already
    if meta::name(&config).is_empty() && server.store.get(&key).is_none() {
        let name = &context.target.name;
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    let sent = config.clone();
    update::check_identity(context, &mut config)?;
    if config.pointer("/metadata/managedFields").is_some_and(|m| m.as_array().is_none_or(|m| !m.is_empty())) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let force = context.params.flag("force");
    // somebody may create or delete it between the look and the write
    for _ in 0..8 {
        if server.store.get(&key).is_none() {
            if !context.target.subresource.is_empty() {
                return Err(context.not_found());
            }
            if !meta::text(&config, "/metadata/uid").is_empty() {
                return Err(ApiError::conflict(
                    &context.resource.group,
                    &context.resource.plural,
                    &context.target.name,
                    "uid mismatch: the provided object specified a uid, and no existing object was found",
                ));
            }
            let mut value = apply::apply(context, None, &config, &sent, force)?;
            // it names a version of an object that is gone
            meta::metadata_mut(&mut value).shift_remove("resourceVersion");
            match create::create_object(server, context, value, true).await {
                Ok(value) => return Ok(output::object(context, StatusCode::CREATED, &value)),
                Err(error) if error.reason == "AlreadyExists" => continue,
                Err(error) => return Err(error),
            }
        }
        let result = pipeline::change(server, context, |old| {
            let value = apply::apply(context, Some(old), &config, &sent, force)?;
            Ok(pipeline::Change { value, applied: true })
        })
        .await;
        match result {
            Ok(value) => return Ok(output::object(context, StatusCode::OK, &value)),
            Err(error) if error.reason == "NotFound" && context.target.subresource.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Err(ApiError::modified(&context.resource.group, &context.resource.plural, &context.target.name))
}
