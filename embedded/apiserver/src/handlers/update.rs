//! update: PUT of an object or its status.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::{output, pipeline};
use crate::error::{ApiError, ApiResult, Cause};
use crate::meta;
use crate::registry::Resource;
use crate::request::Context;
use crate::server::Server;

/// Name and namespace in the body must be those in the path.
pub fn check_identity(context: &Context, value: &mut Value) -> ApiResult<()> {
    let target = &context.target;
    let name = meta::name(value).to_string();
    if !name.is_empty() && name != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    let namespace = meta::namespace(value).to_string();
    if context.resource.namespaced && !namespace.is_empty() && namespace != target.namespace {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            target.namespace
        )));
    }
    let metadata = meta::metadata_mut(value);
    metadata.insert("name".into(), target.name.clone().into());
    if context.resource.namespaced {
        metadata.insert("namespace".into(), target.namespace.clone().into());
    }
    Ok(())
}

/// Kinds that no update may overwrite without having read them.
fn needs_version(resource: &Resource) -> bool {
    let kind = (resource.group.as_str(), resource.plural.as_str());
    resource.custom
        || matches!(
            resource.group.as_str(),
            "apiextensions.k8s.io" | "apiregistration.k8s.io" | "admissionregistration.k8s.io"
        )
        || matches!(
            kind,
            ("coordination.k8s.io", "leases")
                | ("policy", "poddisruptionbudgets")
                | ("storage.k8s.io", "csidrivers" | "csinodes" | "volumeattachments")
        )
}

/// PUT.
pub async fn update(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let mut value = pipeline::decode(context, body)?;
    pipeline::check_type(&context.resource, &mut value)?;
    check_identity(context, &mut value)?;
    if needs_version(&context.resource) && meta::text(&value, "/metadata/resourceVersion").is_empty() {
        let mut cause = Cause::invalid("metadata.resourceVersion", &Value::Null, "");
        cause.message = "Invalid value: 0x0: must be specified for an update".into();
        return Err(context.invalid(&context.target.name, vec![cause]));
    }
    let value =
        pipeline::change(server, context, |_| Ok(pipeline::Change { value: value.clone(), applied: false })).await?;
    Ok(output::object(context, StatusCode::OK, &value))
}
