//! The end of a custom resource definition: its objects go first.

use std::sync::Arc;

use serde_json::Value;

use crate::handlers::{self, Deletion, pipeline};
use crate::meta;
use crate::registry::crd;
use crate::request::Context;
use crate::server::Server;

/// Goes on with the deletion of all definitions that are being deleted.
pub async fn sweep(server: &Arc<Server>) {
    let definitions = server.store.list("apiextensions.k8s.io/customresourcedefinitions", None).0;
    for definition in definitions.iter().filter(|d| !d.deleting) {
        reconsider(server, &definition.value()).await;
    }
    for definition in definitions.iter().filter(|d| d.deleting) {
        let value = definition.value();
        let storage = format!("{}/{}", meta::text(&value, "/spec/group"), meta::text(&value, "/spec/names/plural"));
        let objects = server.store.list(&storage, None).0;
        if let Some(resource) = server.registry.stored(&storage) {
            for object in objects.iter().filter(|o| !o.deleting) {
                let context = Context::internal(resource.clone(), &object.key.namespace, &object.key.name);
                if let Err(error) = handlers::delete_object(server, &context, &Deletion::default()).await
                    && error.reason != "NotFound"
                {
                    tracing::warn!(%error, resource = storage, name = object.key.name, "cannot delete an object of a custom resource");
                }
            }
        }
        if server.store.list(&storage, None).0.is_empty() {
            release(server, &definition.key.name).await;
        }
    }
}

/// Names that were taken may be free now.
async fn reconsider(server: &Arc<Server>, definition: &Value) {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    let refused = conditions
        .into_iter()
        .flatten()
        .any(|c| meta::text(c, "/type") == "NamesAccepted" && meta::text(c, "/status") == "False");
    let Some(resource) = server.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions") else {
        return;
    };
    if refused {
        // the status is made anew with every change
        let context = Context::internal(resource, "", meta::name(definition));
        let again = |old: &Value| Ok(pipeline::Change { value: old.clone(), applied: true });
        if let Err(error) = pipeline::change(server, &context, again).await {
            tracing::debug!(%error, crd = meta::name(definition), "cannot look at a definition's names again");
        }
    }
}

async fn release(server: &Arc<Server>, name: &str) {
    let Some(resource) = server.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions") else {
        return;
    };
    let context = Context::internal(resource, "", name);
    let result = pipeline::change(server, &context, |old| {
        let mut value = old.clone();
        meta::set_finalizers(&mut value, meta::finalizers(old).into_iter().filter(|f| f != crd::CLEANUP).collect());
        Ok(pipeline::Change { value, applied: false })
    })
    .await;
    if let Err(error) = result
        && error.reason != "NotFound"
    {
        tracing::warn!(%error, crd = name, "cannot finish the deletion of a custom resource definition");
    }
}
