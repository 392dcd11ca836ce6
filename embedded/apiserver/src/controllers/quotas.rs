//! The status of quotas: what is used of them.

use std::sync::Arc;

use crate::admission::quotas;
use crate::handlers::pipeline;
use crate::request::Context;
use crate::server::Server;

/// Shows what is used of the quotas of a namespace in which something changed.
pub async fn sweep(server: &Arc<Server>, namespace: &str) {
    if namespace.is_empty() {
        return;
    }
    let Some(resource) = server.registry.find("", "v1", "resourcequotas") else { return };
    for quota in server.store.list("/resourcequotas", Some(namespace)).0 {
        let Some(status) = quotas::status(server, &quota) else { continue };
        let mut context = Context::internal(resource.clone(), namespace, &quota.key.name);
        context.target.subresource = "status".into();
        let result = pipeline::change(server, &context, |old| {
            let mut value = old.clone();
            value["status"] = status.clone();
            Ok(pipeline::Change { value, applied: false })
        })
        .await;
        if let Err(error) = result
            && error.reason != "NotFound"
        {
            tracing::warn!(%error, namespace, quota = quota.key.name, "cannot show what is used of a quota");
        }
    }
}
