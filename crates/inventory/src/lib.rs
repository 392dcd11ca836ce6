//! Inventory: what the providers hold, in memory, and the REST service over it.
//!
//! ```text
//! collector ─► Writer ─► Store (records, revisions) ─┬─► rest::router   GET /providers/…, watch
//!                 └─► Rules (concerns on each VM)     └─► find           references of maps and plans
//! openshift ────────────► Live (lists per request) ────┘
//! ```
//!
//! Records are immutable and shared; a change replaces one and raises its
//! revision. Nothing is kept on disk: a collector fills the store again from its
//! source. The crate knows no provider's format: each provider describes its
//! collections with a [`ProviderSpec`], a table of names and of the keys that
//! each detail level shows.

pub mod client;
mod disk;
mod find;
mod project;
mod providers;
mod record;
mod resource;
pub mod rest;
mod rules;
mod spec;
mod store;
mod table;
mod validate;
mod view;
mod writer;

pub use find::{FindError, Reference};
pub use providers::{Inventory, Live, LiveError, LiveQuery, ProviderEntry};
pub use record::{Draft, Record, Verdict};
pub use resource::{Json, Native, Resource, SelfLink, Shown, Sink, restore};
pub use rules::Rules;
pub use spec::{Count, Field, KindSpec, PathMatch, ProviderSpec, Tree, Workload};
pub use store::{Action, Change, Event, Store};
pub use view::{Node, View, level};
pub use writer::Writer;
