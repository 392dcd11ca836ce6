//! The API of Forklift: the kinds of `forklift.konveyor.io/v1beta1` and every name that users and programs see.
//!
//! Everything here is data: custom resources ([`plan`], [`provider`], …), conditions and how they are staged
//! ([`condition`]), labels, annotations, phases and pipeline steps as constants, the controller's settings
//! ([`settings`]), what workers are told and what they answer ([`worker`]), and the inventory's REST payloads
//! ([`rest`]). No client, no clock: time is passed in.
//!
//! Field names, defaults and validations are upstream's, so that manifests written for Forklift work unchanged.
//! The manifests in `crds/` are generated from these types by `cargo run -p xtask -- gen`.

pub mod annotations;
pub mod condition;
pub mod controller_config;
pub mod conversion;
mod crd;
pub mod hook;
pub mod host;
pub mod labels;
pub mod map;
pub mod migration;
pub mod phase;
pub mod plan;
pub mod plan_status;
pub mod populator;
pub mod provider;
pub mod reference;
pub mod rest;
pub mod schema;
pub mod server;
pub mod settings;
pub mod step;
pub mod vddk;
mod wire;
pub mod worker;

pub use condition::{Category, Condition, Conditions};
pub use controller_config::ForkliftController;
pub use conversion::Conversion;
pub use crd::crds;
pub use hook::Hook;
pub use host::Host;
pub use map::{NetworkMap, StorageMap};
pub use migration::Migration;
pub use phase::Phase;
pub use plan::Plan;
pub use populator::{OpenstackVolumePopulator, OvirtVolumePopulator, VSphereXcopyVolumePopulator};
pub use provider::{Provider, ProviderType};
pub use reference::Ref;
pub use server::{HyperVProviderServer, OVAProviderServer};
pub use settings::Settings;
pub use wire::UnknownValue;

/// The API group of all our kinds.
pub const GROUP: &str = "forklift.konveyor.io";
/// The API version of all our kinds.
pub const VERSION: &str = "v1beta1";
/// The one image of the project: controller, inventory and every worker, told apart by their arguments.
pub const IMAGE: &str = "quay.io/kubev2v/forklift:latest";
/// The namespace that the project lives in when nothing else is said.
pub const DEFAULT_NAMESPACE: &str = "konveyor-forklift";
/// The name of the provider that stands for the cluster we run on.
pub const HOST_PROVIDER: &str = "host";
