//! Validation: what may go wrong with a VM, found before it is migrated.
//!
//! Rules are Rego, one per file with its test beside it, in the packages
//! `io.konveyor.forklift.<provider>`; each adds to the set `concerns`. They are
//! compiled once per provider and evaluated in process; the same rules answer
//! over HTTP as OPA's data API does. Users' own rules come from a folder (the
//! mounted ConfigMap); a bad file is left out and named, it never takes the
//! others down.
//!
//! ```text
//! rules/**/x.rego ─┐                    ┌─► Validator::concerns(provider, workload)
//! users' files ────┴─► rego ─► program ─┴─► rest::router  /v1/data/io/konveyor/forklift/…
//! ```
//!
//! [`rego`] is the engine: OPA's meaning, bounds on time and memory.

mod bulk;
pub mod cli;
mod compiled;
mod engine;
mod follow;
mod metrics;
mod question;
pub mod reference;
#[expect(missing_docs, reason = "the parts of an engine: what is not obvious is said where it is")]
pub mod rego;
mod request;
pub mod rest;
pub mod suite;
mod trace;
mod user_rules;

pub use bulk::{cores, parallel};
pub use engine::{Concern, EvaluationError, QueryError, Validator};
pub use follow::{Folder, LOOK, follow_folder};
pub use rego::limits::{Limits, Stop};
pub use trace::{RuleTrace, TraceStep};
pub use user_rules::{RuleError, RuleFile, is_rule, read as read_rules, read_tree};

/// The bundled rule files and their tests: path below `rules/`, text.
pub const BUNDLED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/rules.rs"));

/// The prefix of every rule package; the provider's name follows.
pub const PACKAGE: &str = "io.konveyor.forklift";

/// Returns the rule package's last part for a provider type (`vsphere` has the name `vmware` there).
pub fn package_of(provider_type: &str) -> &str {
    match provider_type {
        "vsphere" => "vmware",
        other => other,
    }
}
