//! Resources of a cluster: its objects as they are, and where they are.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rest::Resource;

/// A cluster as a provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provider {
    /// The Provider object's ids.
    #[serde(flatten)]
    pub resource: Resource,
    /// The type of provider.
    #[serde(rename = "type")]
    pub type_: String,
    /// The Provider object.
    pub object: Value,
    /// How many VMs it has.
    pub vm_count: i64,
    /// How many networks it has.
    pub network_count: i64,
    /// How many storage classes it has.
    pub storage_class_count: i64,
}

/// An object of a cluster: a storage class, a network, a volume claim …
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Object<T: Default = Value> {
    /// Its ids.
    #[serde(flatten)]
    pub resource: Resource,
    /// The object.
    pub object: T,
}

/// A VM of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vm {
    /// Its ids.
    #[serde(flatten)]
    pub resource: Resource,
    /// The VirtualMachine.
    pub object: Value,
    /// The VirtualMachineInstance, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Value>,
}
