//! The REST service: upstream's paths, detail levels and answers.
//!
//! | path | answer |
//! |---|---|
//! | `/schema` | the paths; without authentication |
//! | `/providers` | all providers, keyed by type |
//! | `/providers/{type}` | the providers of a type |
//! | `/providers/{type}/{uid}` | one provider in full |
//! | `/providers/{type}/{uid}/{collection}` | a collection; with `X-Watch` its changes over a WebSocket |
//! | `/providers/{type}/{uid}/{collection}/{id}` | one resource in full |
//! | `/providers/{type}/{uid}/workloads/{vm}` | a VM with what it refers to |
//! | `/providers/{type}/{uid}/tree/{name}` | a tree |
//! | `/metrics` | the service's own metrics; without authentication, without names |
//!
//! Query: `detail`, `name`, `namespace`, `limit`, `offset` as upstream; ours are
//! `query` (TSL, with `strict`), `sort` (`name,-memoryMB`) and `stale`. Status codes:
//! 206 while a provider's inventory is not loaded, 404 with `X-Reason:
//! ProviderNotFound` for an unknown provider, 401 and 403 as in [`auth`].
//! Unlike upstream, the token is checked before anything about a provider is told.
//!
//! Records that an earlier run left are the body of the 206, with their `Age`;
//! `stale=true` does not wait for the source. Lists have an `ETag` and
//! `X-Total-Count`, are packed with gzip when the client takes it, and tell in
//! `forklift-warning` when records do not fit the query.

pub mod auth;
mod handlers;
mod list;
mod metrics;
mod query;
mod refusal;
mod texts;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;

pub use auth::{Access, Authorizer, Denied, Open, User};

use crate::Inventory;

/// The provider types of the `/providers` aggregate, in upstream's order.
pub const PROVIDER_TYPES: [&str; 7] = ["openshift", "vsphere", "ovirt", "openstack", "ova", "ec2", "hyperv"];

#[derive(Clone)]
pub(crate) struct Service {
    pub inventory: Inventory,
    pub authorizer: Arc<dyn Authorizer>,
    pub parity_limit: Duration,
    pub lists: Arc<list::Cache>,
    pub texts: Arc<texts::Texts>,
    pub metrics: Arc<metrics::Metrics>,
}

/// Returns the service's routes. TLS and the address are the caller's business.
pub fn router(inventory: Inventory, authorizer: Arc<dyn Authorizer>) -> Router {
    router_with(inventory, authorizer, Duration::from_secs(10))
}

/// Like [`router`], with the time that a request waits for an inventory to load.
pub fn router_with(inventory: Inventory, authorizer: Arc<dyn Authorizer>, parity_limit: Duration) -> Router {
    let mut routes = Router::new();
    for (path, with_slash, handler) in [
        ("/schema", false, get(handlers::schema)),
        ("/metrics", false, get(handlers::metrics)),
        ("/providers", true, get(handlers::all_providers)),
        ("/providers/{type}", true, get(handlers::providers)),
        ("/providers/{type}/{uid}", false, get(handlers::provider)),
        ("/providers/{type}/{uid}/{collection}", true, get(handlers::collection)),
        ("/providers/{type}/{uid}/{collection}/{id}", false, get(handlers::resource)),
    ] {
        routes = routes.route(path, handler.clone());
        if with_slash {
            routes = routes.route(&format!("{path}/"), handler);
        }
    }
    let (lists, metrics) = (Arc::default(), Arc::<metrics::Metrics>::default());
    let counted = axum::middleware::from_fn_with_state(metrics.clone(), metrics::count);
    routes.layer(counted).with_state(Service {
        inventory,
        authorizer,
        parity_limit,
        lists,
        texts: Arc::default(),
        metrics,
    })
}
