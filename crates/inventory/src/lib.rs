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
mod find;
mod providers;
mod record;
pub mod rest;
mod rules;
mod spec;
mod store;

pub use find::{FindError, Reference};
pub use providers::{Inventory, Live, LiveError, LiveQuery, ProviderEntry};
pub use record::{Draft, Record};
pub use rules::Rules;
pub use spec::{Count, Field, KindSpec, PathMatch, ProviderSpec};
pub use store::{Change, Event, Store, Writer};
