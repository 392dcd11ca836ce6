//! OpenAPI v3 per group and version (kubectl explain, apply and validation read it), and the v2 document of all groups
//! (`v2`) for older clients.
//!
//! Documents are made at first use and kept until the set of resources changes: most servers are never asked.

mod v2;
mod v2_protobuf;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use v2::v2;

use crate::error::{ApiError, ApiResult};
use crate::handlers::json_response as handlers_json;
use crate::registry::{Access, Resource};
use crate::schema::builtin;
use crate::server::Server;

/// Documents by group and version, of one state of the registry, and the hashes that tell whether they changed.
#[derive(Default)]
pub struct Cache {
    documents: Mutex<(u64, HashMap<String, Arc<str>>)>,
    hashes: Mutex<(u64, BTreeMap<String, String>)>,
}

fn path_of(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}/{}", resource.group, resource.version)
    }
}

/// Hash of what each group's document is made of. Clients keep documents by it for ever and across restarts, so it
/// changes with the content only, and does not repeat for other content.
fn hashes(server: &Server) -> BTreeMap<String, String> {
    let changes = server.registry.changes();
    let mut cache = server.openapi.hashes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if cache.0 == changes && !cache.1.is_empty() {
        return cache.1.clone();
    }
    let mut digests: BTreeMap<String, Sha256> = BTreeMap::new();
    for resource in server.registry.all() {
        // built-in documents come from the program, custom ones from their schema
        let digest = digests.entry(path_of(&resource)).or_insert_with(|| {
            Sha256::new_with_prefix(concat!("v2 ", env!("CARGO_PKG_VERSION"), " k8s-openapi v1_33"))
        });
        digest.update(format!("{} {} {} {}\n", resource.plural, resource.kind, resource.namespaced, resource.status));
        if resource.custom {
            digest.update(resource.published.to_string());
        }
    }
    let hex = |digest: Sha256| digest.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02X}"));
    *cache = (changes, digests.into_iter().map(|(path, digest)| (path, hex(digest))).collect());
    cache.1.clone()
}

/// GET /openapi/v3.
pub fn v3_index(server: &Server) -> Response {
    let path = |(path, hash): (String, String)| {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = hashes(server).into_iter().map(path).collect();
    handlers_json(StatusCode::OK, json!({"paths": paths}).to_string())
}

/// GET /openapi/v3/{api/v1 | apis/G/V}. With the right `hash` the answer may be kept for ever; with an old one the
/// client is sent to the right one.
pub fn v3_group(server: &Server, path: &str, uri: &Uri) -> ApiResult<Response> {
    let hash = hashes(server).remove(path).ok_or_else(ApiError::no_such_path)?;
    let asked = uri.query().unwrap_or_default().split('&').find_map(|p| p.strip_prefix("hash="));
    if asked.is_some_and(|asked| asked != hash) {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let target = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")).map_err(ApiError::internal)?;
        response.headers_mut().insert(header::LOCATION, target);
        return Ok(response);
    }
    let changes = server.registry.changes();
    let kept = {
        let mut cache = server.openapi.documents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if cache.0 != changes {
            *cache = (changes, HashMap::new());
        }
        cache.1.get(path).cloned()
    };
    let text = match kept {
        Some(text) => text,
        None => {
            let resources: Vec<_> = server.registry.all().into_iter().filter(|r| path_of(r) == path).collect();
            let text: Arc<str> = document(&resources).to_string().into();
            let mut cache = server.openapi.documents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if cache.0 == changes {
                cache.1.insert(path.to_string(), text.clone());
            }
            text
        }
    };
    let mut response = handlers_json(StatusCode::OK, text.to_string());
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{hash}\"")) {
        headers.insert(header::ETAG, etag);
    }
    if asked.is_some() {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn reversed(group: &str) -> String {
    if group.is_empty() { "io.k8s.api.core".into() } else { group.split('.').rev().collect::<Vec<_>>().join(".") }
}

fn document(resources: &[Arc<Resource>]) -> Value {
    let makers: Vec<_> = resources.iter().filter_map(|r| r.published_builtin()).collect();
    let custom = resources.iter().any(|r| r.custom);
    let mut schemas = if makers.is_empty() { Map::new() } else { builtin::definitions(&makers) };
    if custom {
        schemas.extend(builtin::definitions(&[|g| {
            g.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>()
        }]));
        schemas.extend(builtin::definitions(&[|g| {
            g.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>()
        }]));
    }
    for schema in schemas.values_mut() {
        point_to_components(schema);
    }
    let mut paths = Map::new();
    for resource in resources {
        let name = schema_name(resource, &schemas);
        if resource.custom {
            schemas.insert(name.clone(), custom_schema(resource));
        } else if let Some(Value::Object(schema)) = schemas.get_mut(&name) {
            schema.insert("x-kubernetes-group-version-kind".into(), json!([gvk(resource)]));
        }
        add_paths(&mut paths, resource, &name);
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.33.0"}, "paths": paths, "components": {"schemas": schemas}})
}

fn schema_name(resource: &Resource, schemas: &Map<String, Value>) -> String {
    if resource.custom {
        return format!("{}.{}.{}", reversed(&resource.group), resource.version, resource.kind);
    }
    let ending = format!(".{}.{}", resource.version, resource.kind);
    let found = schemas.keys().find(|name| name.ends_with(&ending));
    found.cloned().unwrap_or_else(|| format!("{}.{}.{}", reversed(&resource.group), resource.version, resource.kind))
}

/// Published definitions refer to each other by another path, and carry descriptions beside references.
fn point_to_components(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                let target = format!("#/components/schemas/{}", reference.rsplit('/').next().unwrap_or(reference));
                if map.len() == 1 {
                    map.insert("$ref".into(), target.into());
                } else {
                    map.shift_remove("$ref");
                    map.insert("allOf".into(), json!([{"$ref": target}]));
                }
            }
            map.values_mut().for_each(point_to_components);
        }
        Value::Array(list) => list.iter_mut().for_each(point_to_components),
        _ => {}
    }
}

fn custom_schema(resource: &Resource) -> Value {
    let mut schema = resource.published.clone();
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    let text = |about: &str| json!({"type": "string", "description": about});
    if let Some(properties) = schema.as_object_mut().map(|s| s.entry("properties").or_insert_with(|| json!({})))
        && let Value::Object(properties) = properties
    {
        properties.insert(
            "apiVersion".into(),
            text("APIVersion defines the versioned schema of this representation of an object."),
        );
        properties.insert(
            "kind".into(),
            text("Kind is a string value representing the REST resource this object represents."),
        );
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        properties.insert("metadata".into(), json!({"description": "Standard object's metadata.", "allOf": [{"$ref": format!("#/components/schemas/{meta}")}]}));
    }
    schema
}

fn parameter(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "query", "description": about, "schema": {"type": "string", "uniqueItems": true}})
}

fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, schema: &str) {
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    let body = json!({"content": {"application/json": {"schema": reference}}});
    let good = json!({"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}});
    let write = json!([
        parameter("dryRun", "When present, indicates that modifications should not be persisted."),
        parameter("fieldManager", "Name of the actor making the change."),
        parameter("fieldValidation", "What to do with unknown fields: Ignore, Warn or Strict."),
    ]);
    let operation = |action: &str, parameters: Value, request: Option<&Value>| {
        let mut operation = json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(resource), "parameters": parameters, "responses": good});
        if let Some(request) = request {
            operation["requestBody"] = request.clone();
        }
        operation
    };
    let base = format!("/{}", path_of(resource));
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{base}/{}", resource.plural)
    };
    let mut many = json!({"post": operation("post", write.clone(), Some(&body))});
    if resource.access == Access::Stored {
        many["get"] = operation("list", json!([]), None);
        many["delete"] = operation("deletecollection", json!([]), None);
        // kubectl reads from here whether it may send a strategic merge patch
        let patch_types: &[&str] = if resource.custom {
            &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
        } else {
            &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            ]
        };
        let content: Map<String, Value> =
            patch_types.iter().map(|t| ((*t).to_string(), json!({"schema": {"type": "object"}}))).collect();
        let patch_body = json!({"content": content});
        let one = json!({
            "get": operation("get", json!([]), None),
            "put": operation("put", write.clone(), Some(&body)),
            "patch": operation("patch", write, Some(&patch_body)),
            "delete": operation("delete", json!([]), None),
        });
        paths.insert(format!("{collection}/{{name}}"), one);
    }
    paths.insert(collection, many);
}
