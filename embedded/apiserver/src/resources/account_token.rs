//! The token of a pod's service account, mounted where in-cluster clients look for it.
//!
//! Source: the admission plug-in ServiceAccount, and the volume it adds.

use serde_json::{Value, json};

use crate::meta;
use crate::server::Server;
use crate::storage::Key;

const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Adds the volume and mounts it in every container that has nothing else there, unless the pod or its account says no.
pub fn add(server: &Server, namespace: &str, pod: &mut Value) {
    let mirror = pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some();
    if mirror || !wanted(server, namespace, pod) {
        return;
    }
    let Some(Value::Object(spec)) = pod.get_mut("spec") else { return };
    let name = format!("kube-api-access-{}", meta::suffix());
    let mut used = false;
    for field in ["initContainers", "containers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(container) = container else { continue };
            let mounts = container.entry("volumeMounts".to_string()).or_insert_with(|| json!([]));
            let Value::Array(mounts) = mounts else { continue };
            if !mounts.iter().any(|mount| meta::text(mount, "/mountPath") == PLACE) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": PLACE}));
                used = true;
            }
        }
    }
    if used {
        let volumes = spec.entry("volumes".to_string()).or_insert_with(|| json!([]));
        if let Value::Array(volumes) = volumes {
            volumes.push(volume(&name));
        }
    }
}

fn wanted(server: &Server, namespace: &str, pod: &Value) -> bool {
    if let Some(said) = pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool) {
        return said;
    }
    let account = Key::new(&"/serviceaccounts".into(), namespace, meta::text(pod, "/spec/serviceAccountName"));
    let account = server.store.get(&account).map(|found| found.value());
    account.and_then(|account| account.get("automountServiceAccountToken")?.as_bool()).unwrap_or(true)
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        // an hour and the seconds by which kubelet knows such a token from one that a person asked for
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
