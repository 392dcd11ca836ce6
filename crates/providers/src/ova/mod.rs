//! OVA: appliances in a folder, the smallest source.
//!
//! ```text
//! worker ova-server (in a pod, folder mounted)          controllers
//!   Catalog ── scan ──► Snapshot ── HTTP (wire) ──► client ─► Collect ─► inventory::Writer
//!     └ appliance::open: archive │ folder, ovf, manifest        machine, source ◄── records
//! ```
//! See README.md for what is real and what was tried.

mod appliance;
pub mod archive;
pub mod catalog;
mod client;
mod collect;
mod ids;
mod machine;
pub mod manifest;
mod model;
pub mod ovf;
mod source;
pub mod wire;

#[cfg(test)]
mod catalog_tests;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

use std::sync::Arc;

use async_trait::async_trait;
use forklift_core::source::{Capabilities, Source};
use forklift_inventory::{ProviderEntry, ProviderSpec};

use crate::{ConnectError, Context, Endpoint, Opened, ProviderKind, Thing};

pub use client::Client;
pub use collect::Collect;
pub use model::SPEC;

/// The provider type.
pub struct Ova;

#[async_trait]
impl ProviderKind for Ova {
    fn spec(&self) -> &'static ProviderSpec {
        &SPEC
    }

    fn capabilities(&self) -> Option<Capabilities> {
        Some(Capabilities::appliance())
    }

    fn collection(&self, thing: Thing) -> &'static str {
        match thing {
            Thing::Vm => "vms",
            Thing::Network => "networks",
            Thing::Storage => "storages",
        }
    }

    async fn test(&self, endpoint: &Endpoint, _: &Context) -> Result<(), ConnectError> {
        server(endpoint)?.test().await
    }

    fn open(&self, endpoint: &Endpoint, _: &Context) -> Result<Opened, ConnectError> {
        Ok(Opened::Collected(Box::new(Collect::new(server(endpoint)?))))
    }

    fn source(&self, entry: Arc<ProviderEntry>, _: &Endpoint, _: &Context) -> Option<Arc<dyn Source>> {
        Some(Arc::new(source::Appliances::new(entry)))
    }
}

fn server(endpoint: &Endpoint) -> Result<Client, ConnectError> {
    let starting = || ConnectError::Starting("the provider's server is not up yet".to_owned());
    Client::new(endpoint.server.as_deref().ok_or_else(starting)?)
}
