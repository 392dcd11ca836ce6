//! The scale subresource: the count of copies, whatever the kind calls it.

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::patch::Patch;
use super::{output, pipeline, read};
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::registry::Resource;
use crate::request::Context;
use crate::server::Server;

fn pointer(path: &str) -> String {
    path.trim_start_matches('.').split('.').fold(String::new(), |all, step| all + "/" + step)
}

/// The object's scale.
pub fn scale_of(resource: &Resource, value: &Value) -> Value {
    let Some(scale) = &resource.scale else { return Value::Null };
    let count = |path: &str| value.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or(0);
    let selector = match &scale.selector {
        Some(path) => value.pointer(&pointer(path)).and_then(Value::as_str).unwrap_or_default().to_string(),
        None => {
            let labels = value.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
            labels
                .into_iter()
                .flatten()
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(",")
        }
    };
    let m = |field: &str| value.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": m("name"), "namespace": m("namespace"), "uid": m("uid"), "resourceVersion": m("resourceVersion"), "creationTimestamp": m("creationTimestamp")},
        "spec": {"replicas": count(&scale.spec)},
        "status": {"replicas": count(&scale.status), "selector": selector},
    })
}

/// Sets the count of copies that is wanted.
pub fn set_replicas(resource: &Resource, value: &mut Value, replicas: i64) {
    let Some(scale) = &resource.scale else { return };
    let mut at = value;
    for step in scale.spec.trim_start_matches('.').split('.') {
        at = &mut at[step];
    }
    *at = replicas.into();
}

/// GET.
pub fn get(server: &Server, context: &Context) -> ApiResult<Response> {
    let object = read::find(server, context)?;
    Ok(output::json_response(
        StatusCode::OK,
        scale_of(&context.resource, &output::served(&context.resource, &object)).to_string(),
    ))
}

/// PUT and PATCH.
pub async fn change(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let wanted = if context.method == Method::PUT {
        Ok(pipeline::decode(context, body)?)
    } else {
        Err(Patch::decode(context, body)?)
    };
    let value = pipeline::change(server, context, |old| {
        let scale = match &wanted {
            Ok(scale) => scale.clone(),
            Err(patch) => patch.apply(context, &scale_of(&context.resource, old))?,
        };
        let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        if replicas < 0 {
            return Err(ApiError::invalid(
                "autoscaling",
                "Scale",
                &context.target.name,
                vec![crate::error::Cause::invalid(
                    "spec.replicas",
                    &replicas.into(),
                    "should be a non-negative integer",
                )],
            ));
        }
        let mut value = old.clone();
        let revision = meta::text(&scale, "/metadata/resourceVersion");
        if !revision.is_empty() {
            meta::metadata_mut(&mut value).insert("resourceVersion".into(), revision.into());
        }
        set_replicas(&context.resource, &mut value, replicas);
        Ok(pipeline::Change { value, applied: false })
    })
    .await?;
    Ok(output::json_response(StatusCode::OK, scale_of(&context.resource, &value).to_string()))
}
