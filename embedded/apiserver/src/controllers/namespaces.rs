//! Namespaces: what is in them from the start, and their deletion, which empties them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::ensure;
use crate::handlers::{self, Deletion, pipeline};
use crate::meta;
use crate::request::Context;
use crate::server::Server;
use crate::storage::Key;

/// The service account and the root certificate that pods expect.
pub async fn ensure_defaults(server: &Arc<Server>, namespace: &str) -> anyhow::Result<()> {
    let ca = json!({"data": {"ca.crt": server.ca_pem}});
    tokio::try_join!(
        ensure(server, "", "v1", "serviceaccounts", namespace, "default", json!({})),
        ensure(server, "", "v1", "configmaps", namespace, "kube-root-ca.crt", ca),
    )?;
    Ok(())
}

/// Puts this server's root certificate where an older one is: after a restore the server has another authority.
pub async fn renew_root_certificates(server: &Arc<Server>) {
    for map in server.store.list("/configmaps", None).0 {
        if map.key.name != "kube-root-ca.crt" || map.deleting {
            continue;
        }
        let mut value = map.value();
        if value.pointer("/data/ca.crt").and_then(serde_json::Value::as_str) == Some(server.ca_pem.as_str()) {
            continue;
        }
        value["data"] = json!({"ca.crt": server.ca_pem});
        if let Err(error) = server.store.replace(map.key.clone(), map.revision, value).await {
            tracing::warn!(%error, namespace = map.key.namespace, "cannot renew the root certificate");
        }
    }
}

/// Goes on with the deletion of all namespaces that are being deleted.
pub async fn sweep(server: &Arc<Server>) {
    for namespace in server.store.list("/namespaces", None).0 {
        if namespace.deleting {
            empty(server, &namespace.key.name).await;
            finish(server, &namespace.key.name).await;
        }
    }
}

async fn empty(server: &Arc<Server>, namespace: &str) {
    for (storage, _) in server.store.counts() {
        let Some(resource) = server.registry.stored(&storage).filter(|r| r.namespaced) else { continue };
        for object in server.store.list(&storage, Some(namespace)).0 {
            if object.deleting {
                continue;
            }
            let context = Context::internal(resource.clone(), namespace, &object.key.name);
            if let Err(error) = handlers::delete_object(server, &context, &Deletion::default()).await
                && error.reason != "NotFound"
            {
                tracing::warn!(%error, namespace, name = object.key.name, "cannot delete the content of a namespace");
            }
        }
    }
}

/// Writes into the namespace's conditions what is left in it and which finalizers hold it.
async fn tell(server: &Arc<Server>, namespace: &str) {
    let (mut kinds, mut holders) = (BTreeMap::new(), BTreeMap::new());
    for storage in server.store.counts().keys() {
        for object in server.store.list(storage, Some(namespace)).0 {
            let (group, plural) = storage.split_once('/').unwrap_or_default();
            *kinds.entry(format!("{plural}.{group}")).or_insert(0) += 1;
            for finalizer in meta::finalizers(&object.value()) {
                *holders.entry(finalizer).or_insert(0) += 1;
            }
        }
    }
    let shown = |counts: &BTreeMap<String, usize>, join: &str| {
        counts
            .iter()
            .map(|(name, count)| format!("{name} {join} {count} resource instances"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let condition = |kind: &str, is: bool, reason: &str, message: String| json!({"type": kind, "status": if is { "True" } else { "False" }, "lastTransitionTime": meta::now(), "reason": reason, "message": message});
    let fine = |kind: &str, reason: &str, message: &str| condition(kind, false, reason, message.into());
    let conditions = vec![
        fine("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        condition(
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", shown(&kinds, "has")),
        ),
        match holders.is_empty() {
            true => fine(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
            false => condition(
                "NamespaceFinalizersRemaining",
                true,
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {}", shown(&holders, "in")),
            ),
        },
    ];
    let Some(resource) = server.registry.find("", "v1", "namespaces") else { return };
    let mut context = Context::internal(resource, "", namespace);
    context.target.subresource = "status".into();
    let result = pipeline::change(server, &context, |old| {
        let before = old.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let told = |c: &Value, b: &Value| ["type", "status", "message"].iter().all(|field| c[*field] == b[*field]);
        let mut value = old.clone();
        if !conditions.iter().all(|c| before.iter().any(|b| told(c, b))) {
            meta::object_mut(&mut value, "status").insert("conditions".into(), conditions.clone().into());
        }
        Ok(pipeline::Change { value, applied: false })
    })
    .await;
    if let Err(error) = result
        && error.reason != "NotFound"
    {
        tracing::debug!(%error, namespace, "cannot tell what is left in a namespace");
    }
}

/// Lets the namespace go when it is being deleted and empty.
pub async fn finish(server: &Arc<Server>, namespace: &str) {
    let Some(object) = server.store.get(&Key::new(&"/namespaces".into(), "", namespace)).filter(|n| n.deleting) else {
        return;
    };
    let left = server.store.counts().keys().any(|storage| !server.store.list(storage, Some(namespace)).0.is_empty());
    let finalizers = object.value().pointer("/spec/finalizers").and_then(|f| f.as_array().cloned()).unwrap_or_default();
    if left {
        tell(server, namespace).await;
    }
    if left || !finalizers.iter().any(|f| f == "kubernetes") {
        return;
    }
    let Some(resource) = server.registry.find("", "v1", "namespaces") else { return };
    let mut context = Context::internal(resource, "", namespace);
    context.target.subresource = "finalize".into();
    let result = pipeline::change(server, &context, |old| {
        let mut value = old.clone();
        let rest: Vec<_> = finalizers.iter().filter(|f| *f != "kubernetes").cloned().collect();
        meta::object_mut(&mut value, "spec").insert("finalizers".into(), rest.into());
        Ok(pipeline::Change { value, applied: false })
    })
    .await;
    if let Err(error) = result
        && error.reason != "NotFound"
    {
        tracing::warn!(%error, namespace, "cannot finish the deletion of a namespace");
    }
}
