//! vSphere: vCenter and ESXi.
//!
//! ```text
//!              ┌─ examine    settings, secret, privileges, thumbprint; hosts reached directly
//! VSphere ─────┼─ collect    Watch ─► World ─► the inventory's records (model, spec, os, tagging)
//!              └─ source     records as machines; power, snapshots, disks on the server itself
//!                  │ live: moRef and instance UUID are read anew before anything is done
//!              session: one login per provider, shared by collector and source ── vim: the SOAP client
//! ```
//! See README.md for what is real and what was tried.

pub mod examine;
pub mod session;
pub mod source;
pub mod vim;

mod adapters;
mod collect;
mod inspection;
mod live;
mod machine;
pub mod model;
pub mod os;
mod properties;
mod snapshots;
mod spec;
mod table;
mod tagging;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use forklift_api::Condition;
use forklift_core::source::{Capabilities, InspectionSnapshots, Source, SourceError};
use forklift_inventory::{ProviderEntry, ProviderSpec};

use crate::{ConnectError, Context, Endpoint, Examination, Hosts, Opened, ProviderKind, Thing};

pub use collect::{Collect, Connect};
pub use machine::machine;
pub use spec::{SPEC, kinds};

/// What a vSphere source can do.
pub const CAPABILITIES: Capabilities = Capabilities {
    power: true,
    warm: true,
    live: false,
    conversion_only: false,
    conversion: true,
    static_ips: true,
    luks: true,
    hosts: true,
    snapshot_tasks: true,
    foreign_snapshots: true,
    guest_ids: true,
};

/// The provider type.
pub struct VSphere;

#[async_trait]
impl ProviderKind for VSphere {
    fn spec(&self) -> &'static ProviderSpec {
        &SPEC
    }

    fn capabilities(&self) -> Option<Capabilities> {
        Some(CAPABILITIES)
    }

    fn collection(&self, thing: Thing) -> &'static str {
        match thing {
            Thing::Vm => kinds::VMS,
            Thing::Network => kinds::NETWORKS,
            Thing::Storage => kinds::DATASTORES,
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Vec<Condition> {
        examine::check(endpoint)
    }

    async fn test(&self, endpoint: &Endpoint, _: &Context) -> Result<(), ConnectError> {
        examine::connect(endpoint).await?.logout().await;
        Ok(())
    }

    async fn examine(&self, endpoint: &Endpoint, _: &Context) -> Result<Examination, ConnectError> {
        examine::examine(endpoint).await
    }

    fn hosts(&self) -> Option<&dyn Hosts> {
        Some(&examine::Esxi)
    }

    fn open(&self, endpoint: &Endpoint, context: &Context) -> Result<Opened, ConnectError> {
        let server = session::endpoint(endpoint).map_err(examine::refusal)?;
        let sessions = session::sessions(endpoint, context);
        // a collector is started after the connection was tested
        let begun = Arc::new(AtomicBool::new(false));
        let connect: Connect = Box::new(move || {
            let (server, sessions, begun) = (server.clone(), sessions.clone(), begun.clone());
            Box::pin(async move {
                if !begun.swap(true, Ordering::Relaxed) {
                    sessions.forgive(&server).await;
                }
                sessions.client(&server).await
            })
        });
        Ok(Opened::Collected(Box::new(Collect::new(connect))))
    }

    fn source(&self, entry: Arc<ProviderEntry>, endpoint: &Endpoint, context: &Context) -> Option<Arc<dyn Source>> {
        Some(Arc::new(source::Vms::new(entry, endpoint, session::sessions(endpoint, context))))
    }

    async fn inspection(
        &self,
        connection: &BTreeMap<String, Vec<u8>>,
    ) -> Option<Result<Arc<dyn InspectionSnapshots>, SourceError>> {
        Some(inspection::connect(connection).await.map(|found| Arc::new(found) as Arc<dyn InspectionSnapshots>))
    }
}
