//! Resources of a folder of appliances.
//!
//! The disks and networks inside a VM are told with capital letters, and so are fields of disks and networks beyond
//! their base: upstream gave them no JSON names, and programs have come to rely on it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rest::{Concern, Detail, Resource, null_is_empty};
use crate::wire::unset;

/// A folder of appliances as a provider.
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
    /// The version of the source's API.
    pub api_version: String,
    /// The source's product.
    pub product: String,
    /// How many VMs it has.
    pub vm_count: i64,
    /// How many networks it has.
    pub network_count: i64,
    /// How many disks it has.
    pub disk_count: i64,
    /// How many storages it has.
    pub storage_count: i64,
}

/// The base of resources from appliances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Base {
    /// The id.
    pub id: String,
    /// The variant of the kind.
    #[serde(skip_serializing_if = "unset")]
    pub variant: String,
    /// The name.
    pub name: String,
    /// Where the resource is, without a leading slash.
    pub self_link: String,
    /// Its path among others.
    #[serde(skip_serializing_if = "unset")]
    pub path: String,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Ids and links.
    #[serde(flatten)]
    pub base: Base,
    /// What the descriptor says of it.
    #[serde(rename = "Description")]
    pub description: String,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Ids and links.
    #[serde(flatten)]
    pub base: Base,
    /// What the descriptor says of it.
    #[serde(flatten)]
    pub facts: DiskFacts,
}

/// A place for disks: one for each disk, with the disk's id and name.
pub type Storage = Base;

/// What a descriptor says of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskFacts {
    /// The appliance or descriptor that it is in.
    pub file_path: String,
    /// Its size, in allocation units.
    pub capacity: i64,
    /// The unit of its size, e.g. `byte * 2^30`.
    pub capacity_allocation_units: String,
    /// Its id in the descriptor.
    pub disk_id: String,
    /// The id of its file in the descriptor.
    pub file_ref: String,
    /// The address of its format's specification.
    pub format: String,
    /// How much of it is in use, in bytes.
    pub populated_size: i64,
}

/// The base of what is inside a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmbeddedBase {
    /// The id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The variant of the kind.
    #[serde(rename = "Variant")]
    pub variant: String,
    /// The name.
    #[serde(rename = "Name")]
    pub name: String,
    /// How often it changed.
    #[serde(rename = "Revision")]
    pub revision: i64,
}

/// A disk inside a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmbeddedDisk {
    /// Ids.
    #[serde(flatten)]
    pub base: EmbeddedBase,
    /// What the descriptor says of it.
    #[serde(flatten)]
    pub facts: DiskFacts,
}

/// A network inside a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmbeddedNetwork {
    /// Ids.
    #[serde(flatten)]
    pub base: EmbeddedBase,
    /// What the descriptor says of it.
    #[serde(rename = "Description")]
    pub description: String,
}

/// A device of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Device {
    /// What it is.
    pub kind: String,
}

/// A network interface of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    #[serde(rename = "MAC")]
    pub mac: String,
    /// The network that it is connected to, by name.
    pub network: String,
    /// More about it.
    #[serde(deserialize_with = "null_is_empty")]
    pub config: Vec<Conf>,
}

/// A key and its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Conf {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A VM with all that is known of it. Less of it is told by [`Vm::at`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Vm {
    /// Ids and links.
    #[serde(flatten)]
    pub base: Base,
    /// The revision that was validated last.
    pub revision_validated: i64,
    /// Its networks.
    #[serde(deserialize_with = "null_is_empty")]
    pub networks: Vec<EmbeddedNetwork>,
    /// Its disks.
    #[serde(deserialize_with = "null_is_empty")]
    pub disks: Vec<EmbeddedDisk>,
    /// What the rules found.
    #[serde(deserialize_with = "null_is_empty")]
    pub concerns: Vec<Concern>,
    /// Path of the appliance or descriptor.
    pub ovf_path: String,
    /// What exported it: `VMware`, `VirtualBox`, `oVirt`, `Xen` …
    pub export_source: String,
    /// Its system.
    pub os_type: String,
    /// The version of the rules that validated it last.
    pub policy_version: i64,
    /// Its UUID.
    pub uuid: String,
    /// `bios` or `efi`.
    pub firmware: String,
    /// Whether only signed systems boot.
    pub secure_boot: bool,
    /// Processors that it is tied to.
    #[serde(deserialize_with = "null_is_empty")]
    pub cpu_affinity: Vec<i32>,
    /// Whether processors can be plugged in.
    pub cpu_hot_add_enabled: bool,
    /// Whether processors can be pulled out.
    pub cpu_hot_remove_enabled: bool,
    /// Whether memory can be plugged in.
    pub memory_hot_add_enabled: bool,
    /// Whether it runs twice.
    pub fault_tolerance_enabled: bool,
    /// Processors in all.
    pub cpu_count: i32,
    /// Cores per socket.
    pub cores_per_socket: i32,
    /// Memory, in its unit.
    #[serde(rename = "memoryMB")]
    pub memory_mb: i32,
    /// The unit of memory, e.g. `byte * 2^20`.
    pub memory_units: String,
    /// The unit of processors, e.g. `hertz * 10^6`.
    pub cpu_units: String,
    /// Memory that a balloon holds.
    pub ballooned_memory: i32,
    /// Its address.
    pub ip_address: String,
    /// Nodes of memory that it is tied to.
    #[serde(deserialize_with = "null_is_empty")]
    pub numa_node_affinity: Vec<String>,
    /// Bytes in use.
    pub storage_used: i64,
    /// Whether changes of disks are tracked.
    pub change_tracking_enabled: bool,
    /// Its devices.
    #[serde(deserialize_with = "null_is_empty")]
    pub devices: Vec<Device>,
    /// Its network interfaces.
    #[serde(deserialize_with = "null_is_empty")]
    pub nics: Vec<Nic>,
}

impl Vm {
    /// Returns the VM as it is told at a level of detail.
    pub fn at(&self, detail: Detail) -> Result<Value, serde_json::Error> {
        match detail {
            Detail::Base => serde_json::to_value(&self.base),
            Detail::Summary => {
                let mut vm = serde_json::to_value(&self.base)?;
                vm["revisionValidated"] = self.revision_validated.into();
                // upstream forgets to copy the networks at this level, and scripts see null
                vm["networks"] = Value::Null;
                vm["disks"] = serde_json::to_value(&self.disks)?;
                vm["concerns"] = serde_json::to_value(&self.concerns)?;
                Ok(vm)
            }
            Detail::All => serde_json::to_value(self),
        }
    }
}
