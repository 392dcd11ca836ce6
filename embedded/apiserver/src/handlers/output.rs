//! Objects and lists in the form that was asked for.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::convert;
use crate::registry::Resource;
use crate::request::{Context, Form};
use crate::storage::Object;
use crate::table;

/// A JSON response.
pub fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// A stored object in the served version.
pub fn served(resource: &Resource, object: &Object) -> Value {
    let mut value = object.value();
    convert::to_served(&mut value, resource);
    value
}

/// A stored object's bytes in the served version.
pub fn served_bytes(resource: &Resource, object: &Object) -> Bytes {
    if convert::is_identity(resource, object.revision) {
        object.json.clone()
    } else {
        Bytes::from(served(resource, object).to_string())
    }
}

/// A stored object's bytes as the item of a list: built-in kinds leave out what the list says already.
fn item_bytes(resource: &Resource, object: &Object) -> Bytes {
    let whole = served_bytes(resource, object);
    if resource.custom {
        return whole;
    }
    let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", resource.kind, resource.api_version());
    if whole.starts_with(head.as_bytes()) {
        let mut item = BytesMut::with_capacity(whole.len());
        item.put_u8(b'{');
        item.put_slice(whole.get(head.len()..).unwrap_or_default());
        return item.freeze();
    }
    let mut value = served(resource, object);
    if let Value::Object(map) = &mut value {
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
    }
    Bytes::from(value.to_string())
}

/// The response in YAML, where it is JSON.
pub async fn as_yaml(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let yaml = async {
        let bytes = axum::body::to_bytes(body, usize::MAX).await.ok()?;
        serde_saphyr::to_string(&serde_json::from_slice::<Value>(&bytes).ok()?).ok()
    };
    let Some(text) = yaml.await else {
        return crate::error::ApiError::internal("the answer cannot be written as YAML").into_response();
    };
    parts.headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/yaml"));
    Response::from_parts(parts, Body::from(text))
}

/// One object, as value in the served version, in the wanted form.
pub fn object(context: &Context, code: StatusCode, value: &Value) -> Response {
    let text = match context.form {
        Form::Object => value.to_string(),
        Form::Table => table::of(
            &context.resource,
            std::slice::from_ref(value),
            context.params.text("includeObject"),
            list_meta(value),
            true,
        )
        .to_string(),
        Form::Metadata => partial(value).to_string(),
    };
    json_response(code, text)
}

/// One stored object in the wanted form.
pub fn stored(context: &Context, code: StatusCode, object_: &Object) -> Response {
    match context.form {
        Form::Object => json_response(code, served_bytes(&context.resource, object_)),
        Form::Table | Form::Metadata => object(context, code, &served(&context.resource, object_)),
    }
}

fn list_meta(value: &Value) -> Value {
    json!({"resourceVersion": crate::meta::text(value, "/metadata/resourceVersion")})
}

/// Only the metadata of an object.
pub fn partial(value: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value.get("metadata")})
}

/// A list in the wanted form.
pub fn list(context: &Context, objects: &[std::sync::Arc<Object>], metadata: Value) -> Response {
    let resource = &context.resource;
    match context.form {
        Form::Object => {
            let mut out = BytesMut::with_capacity(256 + objects.iter().map(|o| o.json.len() + 1).sum::<usize>());
            let head = json!({"kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": metadata})
                .to_string();
            out.put_slice(head.trim_end_matches('}').as_bytes());
            // the trim took the metadata's brace too
            out.put_slice(b"},\"items\":[");
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    out.put_u8(b',');
                }
                out.put_slice(&item_bytes(resource, object));
            }
            out.put_slice(b"]}");
            json_response(StatusCode::OK, out.freeze())
        }
        Form::Table => {
            let values: Vec<Value> = objects.iter().map(|o| served(resource, o)).collect();
            json_response(
                StatusCode::OK,
                table::of(resource, &values, context.params.text("includeObject"), metadata, true).to_string(),
            )
        }
        Form::Metadata => {
            let items: Vec<Value> = objects.iter().map(|o| partial(&served(resource, o))).collect();
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items});
            json_response(StatusCode::OK, list.to_string())
        }
    }
}
