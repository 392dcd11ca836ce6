//! What a control plane does by itself: collect garbage, empty namespaces, clean up after CRDs, keep the defaults of
//! every namespace. Each controller looks again at everything it is responsible for when something changed, so a
//! restart loses nothing.

mod crds;
mod garbage;
mod namespaces;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::handlers;
use crate::request::Context;
use crate::server::Server;
use crate::storage::{EventKind, Key};

/// Makes the objects that every cluster has.
pub async fn bootstrap(server: &Arc<Server>) -> anyhow::Result<()> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure(server, "", "v1", "namespaces", "", name, json!({})).await?;
        namespaces::ensure_defaults(server, name).await?;
    }
    let service = json!({"spec": {"ports": [{"name": "https", "port": 443, "targetPort": server.address.port()}]}});
    ensure(server, "", "v1", "services", "default", "kubernetes", service).await?;
    let everything = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]});
    let rbac = "rbac.authorization.k8s.io";
    ensure(server, rbac, "v1", "clusterroles", "", "cluster-admin", everything).await?;
    let masters = json!({"roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "system:masters"}]});
    ensure(server, rbac, "v1", "clusterrolebindings", "", "cluster-admin", masters).await?;
    for (name, verbs) in [("view", json!(["get", "list", "watch"])), ("edit", json!(["*"])), ("admin", json!(["*"]))] {
        let groups = json!([
            "",
            "apps",
            "batch",
            "policy",
            "networking.k8s.io",
            "autoscaling",
            "events.k8s.io",
            "coordination.k8s.io"
        ]);
        let rules = json!({
            "rules": [{"apiGroups": groups, "resources": ["*"], "verbs": verbs}],
            "metadata": {"labels": {format!("rbac.authorization.k8s.io/aggregate-to-{name}"): "true"}},
        });
        ensure(server, rbac, "v1", "clusterroles", "", name, rules).await?;
    }
    Ok(())
}

/// Makes the object unless it is there.
async fn ensure(
    server: &Arc<Server>,
    group: &str,
    version: &str,
    plural: &str,
    namespace: &str,
    name: &str,
    mut value: Value,
) -> anyhow::Result<()> {
    let resource =
        server.registry.find(group, version, plural).ok_or_else(|| anyhow::anyhow!("no resource {plural}.{group}"))?;
    if server.store.get(&Key::new(&resource.storage, namespace, name)).is_some() {
        return Ok(());
    }
    crate::meta::metadata_mut(&mut value).insert("name".into(), name.into());
    let context = Context::internal(resource, namespace, "");
    match handlers::create_object(server, &context, value, false).await {
        Err(ApiError { reason, .. }) if reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// Starts the controllers; they end with the server.
pub fn spawn(server: &Arc<Server>) {
    tokio::spawn(garbage::run(server.clone()));
    let server = server.clone();
    tokio::spawn(async move {
        let mut events = server.store.listen();
        namespaces::sweep(&server).await;
        crds::sweep(&server).await;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = server.stop.cancelled() => return,
            };
            let Some(event) = event else { return };
            let key = &event.object.key;
            match &*key.resource {
                "/namespaces" if event.kind == EventKind::Added => {
                    if let Err(error) = namespaces::ensure_defaults(&server, &key.name).await {
                        tracing::debug!(%error, namespace = key.name, "cannot make the namespace's defaults");
                    }
                }
                "/namespaces" => namespaces::sweep(&server).await,
                "apiextensions.k8s.io/customresourcedefinitions" => crds::sweep(&server).await,
                _ if event.kind == EventKind::Deleted => {
                    if !key.namespace.is_empty() {
                        namespaces::finish(&server, &key.namespace).await;
                    }
                    crds::sweep(&server).await;
                }
                _ => {}
            }
        }
    });
}
