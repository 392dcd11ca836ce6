//! What is served: versions, groups, resources; in the old form and the aggregated one.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aggregate;
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::registry::{Access, Group, Resource};
use crate::server::Server;

const STORED_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same verbs in the order in which kube-apiserver shows them for custom resources.
const CUSTOM_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

fn answer(value: &Value) -> Response {
    json_text(value.to_string(), "application/json")
}

fn json_text(text: String, media: &'static str) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// GET /version.
pub fn version() -> Response {
    answer(&json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0+embedded", "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}

/// GET /.
pub fn root(server: &Server) -> Response {
    let mut paths = vec!["/api".to_string(), "/api/v1".into(), "/apis".into()];
    for group in server.registry.groups().iter().filter(|g| !g.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|(v, _)| format!("/apis/{}/{v}", group.name)));
    }
    for group in aggregate::groups(server) {
        let name = meta::text(&group, "/name");
        paths.push(format!("/apis/{name}"));
        let versions = group.get("versions").and_then(Value::as_array).into_iter().flatten();
        paths.extend(versions.map(|version| format!("/apis/{}", meta::text(version, "/groupVersion"))));
    }
    paths.extend(crate::health::paths());
    paths.extend(["/metrics", "/openapi/v2", "/openapi/v3", "/version"].map(String::from));
    paths.sort();
    answer(&json!({"paths": paths}))
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|item| {
        item.contains("as=APIGroupDiscoveryList")
            && item.contains("v=v2")
            && !item.contains("v=v2beta1")
            && item.contains("json")
    })
}

fn aggregated(groups: &[Group], others: Vec<Value>, headers: &HeaderMap) -> Response {
    let items: Vec<Value> = groups.iter().map(group_discovery).chain(others).collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let text = list.to_string();
    let tag = Sha256::digest(&text).iter().fold(String::new(), |tag, byte| format!("{tag}{byte:02X}"));
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|t| t.as_bytes() == tag.as_bytes());
    let mut response = json_text(text, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    if known {
        *response.body_mut() = axum::body::Body::empty();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn group_discovery(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Value> = resources.iter().map(|r| resource_discovery(r)).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = group.name.clone().into();
    }
    json!({"metadata": metadata, "versions": versions})
}

fn verbs(resource: &Resource) -> Value {
    match resource.access {
        Access::Ask => json!(["create"]),
        Access::Stored if resource.is("", "namespaces") => {
            STORED_VERBS.iter().filter(|v| **v != "deletecollection").copied().collect()
        }
        Access::Stored if resource.custom => json!(CUSTOM_VERBS),
        Access::Stored => json!(STORED_VERBS),
    }
}

/// Subresources with kind (group, version, kind) and verbs.
fn subresources(resource: &Resource) -> Vec<(&str, String, String, String, Value)> {
    let own = |kind: &str| (resource.group.clone(), resource.version.clone(), kind.to_string());
    let mut all = Vec::new();
    if resource.status {
        let (g, v, k) = own(&resource.kind);
        all.push(("status", g, v, k, json!(["get", "patch", "update"])));
    }
    if resource.scale.is_some() {
        all.push(("scale", "autoscaling".into(), "v1".into(), "Scale".into(), json!(["get", "patch", "update"])));
    }
    for (name, kind) in resource.subresources {
        let ((g, v, k), verbs) = match *name {
            "token" => (("authentication.k8s.io".into(), "v1".into(), (*kind).into()), json!(["create"])),
            "eviction" => (("policy".into(), "v1".into(), (*kind).into()), json!(["create"])),
            "binding" => (own(kind), json!(["create"])),
            "log" => (own(kind), json!(["get"])),
            "finalize" => (own(kind), json!(["update"])),
            "ephemeralcontainers" => (own(kind), json!(["get", "patch", "update"])),
            "attach" | "exec" | "portforward" => (own(kind), json!(["create", "get"])),
            "proxy" => (own(kind), json!(["create", "delete", "get", "patch", "update"])),
            // known to the path parser so that its refusal is clear, but not offered
            _ => continue,
        };
        all.push((name, g, v, k, verbs));
    }
    all
}

fn resource_discovery(resource: &Resource) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let subs: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|(name, group, version, kind, verbs)| json!({"subresource": name, "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs}))
        .collect();
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": scope, "singularResource": resource.singular, "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !subs.is_empty() {
        value["subresources"] = Value::Array(subs);
    }
    value
}

/// GET /api.
pub fn core_versions(server: &Server, headers: &HeaderMap) -> Response {
    if wants_aggregated(headers) {
        let groups: Vec<Group> = server.registry.groups().into_iter().filter(|g| g.name.is_empty()).collect();
        return aggregated(&groups, Vec::new(), headers);
    }
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": server.address.to_string()}]);
    answer(&json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}))
}

fn group_value(group: &Group) -> Value {
    let version = |v: &String| json!({"groupVersion": format!("{}/{v}", group.name), "version": v});
    let versions: Vec<Value> = group.versions.iter().map(|(v, _)| version(v)).collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

/// GET /apis.
pub fn groups(server: &Server, headers: &HeaderMap) -> Response {
    let groups: Vec<Group> = server.registry.groups().into_iter().filter(|g| !g.name.is_empty()).collect();
    if wants_aggregated(headers) {
        return aggregated(&groups, aggregate::discoveries(server), headers);
    }
    let list: Vec<Value> = groups.iter().map(group_value).chain(aggregate::groups(server)).collect();
    answer(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list}))
}

/// GET /apis/GROUP.
pub fn group(server: &Server, name: &str) -> ApiResult<Response> {
    let own = server.registry.groups().into_iter().find(|g| !name.is_empty() && g.name == name);
    let mut others = aggregate::groups(server).into_iter().filter(|group| meta::text(group, "/name") == name);
    let mut value =
        own.map(|group| group_value(&group)).or_else(|| others.next()).ok_or_else(ApiError::no_such_page)?;
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Ok(answer(&value))
}

/// GET /api/v1 and /apis/GROUP/VERSION.
pub fn resources(server: &Server, group: &str, version: &str) -> ApiResult<Response> {
    let all: Vec<_> = server.registry.all().into_iter().filter(|r| r.group == group && r.version == version).collect();
    if all.is_empty() && !server.registry.knows_group(group) {
        return Err(ApiError::no_such_page());
    }
    if all.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let mut list = Vec::new();
    for resource in &all {
        let mut value = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs(resource),
        });
        if !resource.short_names.is_empty() {
            value["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            value["categories"] = json!(resource.categories);
        }
        list.push(value);
        for (name, sub_group, sub_version, kind, verbs) in subresources(resource) {
            let mut value = json!({"name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.namespaced, "kind": kind, "verbs": verbs});
            if sub_group != resource.group {
                value["group"] = sub_group.into();
                value["version"] = sub_version.into();
            }
            list.push(value);
        }
    }
    let group_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
    Ok(answer(
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}),
    ))
}
