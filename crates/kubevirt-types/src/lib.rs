//! Wire types of KubeVirt, CDI and Multus: the fields that we read or write.
//!
//! They are written by hand and hold only what is needed, so every level keeps the fields that it does not know
//! in `other`: reading an object and writing it back loses nothing. All kinds implement
//! [`k8s_openapi::Resource`], so that a Kubernetes client can be used with them. [`crds`] gives minimal
//! definitions for a cluster without KubeVirt, as the embedded one is.

pub mod cdi;
mod crd;
pub mod instancetype;
pub mod kubevirt;
pub mod nad;
mod resource;
pub mod vmi;

pub use cdi::{DataVolume, StorageProfile};
pub use crd::crds;
pub use instancetype::{
    VirtualMachineClusterInstancetype, VirtualMachineClusterPreference, VirtualMachineInstancetype,
    VirtualMachinePreference,
};
pub use kubevirt::VirtualMachine;
pub use nad::NetworkAttachmentDefinition;
pub use vmi::VirtualMachineInstance;

/// Fields that a type does not know, kept as they came.
pub type Other = std::collections::BTreeMap<String, serde_json::Value>;

/// Says that a field has its zero value and is left out of the JSON.
pub(crate) fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
