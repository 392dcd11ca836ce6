//! Client of the vim25 SOAP API: vCenter 6.5 and later, ESXi directly.
//!
//! ```text
//! Endpoint ──► Client::connect ──► call ─┬─ xml: Arg tree → envelope (escaped)
//!  url, user,   version, content,        ├─ HTTP, cookie, one new login when the session is gone
//!  password,    login, keep-alive        └─ element: answer → Element tree (lenient, bounded) │ Fault
//!  tls          properties · watch · task · vm · lease · rest (tags) are written over `call`
//! ```
//! The wire format is VMware's "vSphere Web Services API" (`vim25`); values are dynamic trees rather than generated
//! types, because servers from 6.5 to 9 leave out and add fields, and 900,000 generated lines would be the price.

mod about;
mod authorization;
mod client;
mod element;
mod endpoint;
mod error;
mod lease;
mod properties;
mod session;
mod tags;
mod task;
mod tls;
mod vm;
mod watch;
pub mod xml;

use serde::{Deserialize, Serialize};

pub use about::{About, Content};
pub use authorization::CustomField;
pub use client::Client;
pub use element::{Bounds, Element, Name, ParseError};
pub use endpoint::{Endpoint, Secret, Tls};
pub use error::{Fault, VimError};
pub use lease::{DeviceUrl, Lease, LeaseInfo, ManifestEntry};
pub use properties::{FilterSpec, ObjectContent, Props};
pub use tags::{Tag, Tags};
pub use tls::{Thumbprints, peer_certificate, thumbprints, trusted_certificate};
pub use vm::{ChangedAreas, ServiceTicket};
pub use watch::{ObjectUpdate, UpdateKind, UpdateSet, Watch};
pub use xml::Arg;

/// Managed object reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MoRef {
    /// Type: `VirtualMachine`.
    pub kind: String,
    /// Id within the server: `vm-42`.
    pub value: String,
}

impl MoRef {
    /// Returns a reference.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: kind.into(), value: value.into() }
    }

    /// Returns the reference of a VM.
    pub fn vm(value: impl Into<String>) -> Self {
        Self::new("VirtualMachine", value)
    }
}

impl std::fmt::Display for MoRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}
