//! What a control plane does by itself: collect garbage, empty namespaces, clean up after CRDs, keep the defaults of
//! every namespace. Each controller looks again at everything it is responsible for when something changed, so a
//! restart loses nothing.

mod crds;
mod garbage;
mod namespaces;
mod quotas;
mod roles;

use std::sync::Arc;

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::handlers;
use crate::request::Context;
use crate::server::Server;
use crate::storage::{EventKind, Key};

/// Makes the objects that every cluster has, all at once: the store makes those durable together.
pub async fn bootstrap(server: &Arc<Server>) -> anyhow::Result<()> {
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
    try_join_all(namespaces.map(|name| ensure(server, "", "v1", "namespaces", "", name, json!({})))).await?;
    namespaces::renew_root_certificates(server).await;
    let service = json!({"spec": {"ports": [{"name": "https", "port": 443, "targetPort": server.address.port()}]}});
    let rbac = "rbac.authorization.k8s.io";
    let (roles, bindings) = (roles::cluster_roles(), roles::cluster_role_bindings());
    let roles = roles.iter().map(|(name, role)| ensure(server, rbac, "v1", "clusterroles", "", name, role.clone()));
    let bindings =
        bindings.iter().map(|(name, role)| ensure(server, rbac, "v1", "clusterrolebindings", "", name, role.clone()));
    let defaults = namespaces.map(|name| namespaces::ensure_defaults(server, name));
    let front_proxy = crate::aggregate::authentication(server);
    tokio::try_join!(
        ensure(server, "", "v1", "configmaps", "kube-system", "extension-apiserver-authentication", front_proxy),
        try_join_all(roles),
        try_join_all(bindings),
        try_join_all(defaults),
        ensure(server, "", "v1", "services", "default", "kubernetes", service),
    )?;
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
    tokio::spawn(crate::aggregate::run(server.clone()));
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
            quotas::sweep(&server, &key.namespace).await;
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
