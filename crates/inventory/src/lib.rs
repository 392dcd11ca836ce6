//! Inventory: what the providers hold, in memory, and the REST service over it.
//!
//! ```text
//! collector ─► Writer ─► Store (records, revisions) ─┬─► rest::router   GET /providers/…, query, watch
//!                 └─► Validation ─► Rules (concerns)   ├─► find           references of maps and plans
//! openshift ────────────► Live (lists per request) ────┘─► disk           the last run's records
//! ```
//!
//! Records are immutable and shared; a change replaces one and raises its
//! revision. The source is read anew at each start; what the last run knew is
//! shown until then as what it is. The crate knows no provider's format: each
//! provider describes its collections with a [`ProviderSpec`] and keeps its own
//! type in the record ([`Native`]), from which JSON is made when it is asked for.

pub mod client;
mod disk;
mod feed;
mod find;
mod fresh;
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

pub use feed::{Feed, News, Touched};
pub use find::{FindError, Reference};
pub use fresh::{Ask, Look, Refresh};
pub use providers::{Inventory, Live, LiveError, LiveQuery, ProviderEntry};
pub use record::{Draft, Record, Verdict};
pub use resource::{Json, Native, Resource, SelfLink, Shown, Sink, restore};
pub use rules::Rules;
pub use spec::{Asked, Count, Field, KindSpec, PathMatch, ProviderSpec, Tree, Workload};
pub use store::{Action, Change, Event, Store};
pub use view::{Node, View, level};
pub use writer::Writer;
