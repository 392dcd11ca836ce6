//! What the group serves.

use axum::Json;
use serde_json::{Value, json};

use super::{GROUP, VERSION};

/// Subresources: name, verb.
const SERVED: [(&str, &str); 22] = [
    ("virtualmachines/start", "update"),
    ("virtualmachines/stop", "update"),
    ("virtualmachines/restart", "update"),
    ("virtualmachines/migrate", "update"),
    ("virtualmachines/expand-spec", "get"),
    ("virtualmachines/addvolume", "update"),
    ("virtualmachines/removevolume", "update"),
    ("virtualmachines/portforward", "get"),
    ("virtualmachineinstances/pause", "update"),
    ("virtualmachineinstances/unpause", "update"),
    ("virtualmachineinstances/softreboot", "update"),
    ("virtualmachineinstances/reset", "update"),
    ("virtualmachineinstances/freeze", "update"),
    ("virtualmachineinstances/unfreeze", "update"),
    ("virtualmachineinstances/console", "get"),
    ("virtualmachineinstances/vnc", "get"),
    ("virtualmachineinstances/portforward", "get"),
    ("virtualmachineinstances/guestosinfo", "get"),
    ("virtualmachineinstances/userlist", "get"),
    ("virtualmachineinstances/filesystemlist", "get"),
    ("virtualmachineinstances/addvolume", "update"),
    ("virtualmachineinstances/removevolume", "update"),
];

/// GET of the group's version.
pub async fn resources() -> Json<Value> {
    let list: Vec<Value> = SERVED
        .iter()
        .map(|(name, verb)| json!({"name": name, "singularName": "", "namespaced": true, "kind": "", "verbs": [verb]}))
        .collect();
    Json(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"), "resources": list}),
    )
}

/// GET version: what `virtctl version` shows of the server.
pub async fn version() -> Json<Value> {
    let version = concat!("v1.6.0-embedded.", env!("CARGO_PKG_VERSION"));
    Json(json!({"gitVersion": version, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "", "compiler": "rustc", "platform": "linux/amd64"}))
}
