//! What the OVA server and the collector say to each other: upstream's JSON, with
//! keys added where upstream has none.
//!
//! | path | answer |
//! |---|---|
//! | `/vms` | [`Vm`]s |
//! | `/disks` | [`VmDisk`]s |
//! | `/networks` | [`VmNetwork`]s |
//! | `/appliances` | [`Appliance`]s, also those that cannot be used (ours) |
//! | `/test_connection` | `""` |
//! | `/watch?since=N` | [`Generation`] as soon as it is another than N (ours) |

use forklift_api::worker::Digest;
use serde::{Deserialize, Deserializer, Serialize};

/// The header with the catalogue's generation, on every list.
pub const GENERATION_HEADER: &str = "X-Generation";

/// Go writes empty lists as null.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(de: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(de)?.unwrap_or_default())
}

/// A VM of an appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// Path of the appliance file.
    pub ovf_path: String,
    /// The exporter.
    pub export_source: String,
    /// The guest's operating system.
    pub os_type: String,
    /// Always 0 here.
    pub revision_validated: i64,
    /// Always 0 here.
    pub policy_version: i64,
    /// Its id.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// `bios`, `efi` or empty.
    pub firmware: String,
    /// Whether the firmware checks signatures.
    pub secure_boot: bool,
    /// Never known.
    #[serde(deserialize_with = "null_as_default")]
    pub cpu_affinity: Vec<i32>,
    /// CPUs can be added while it runs.
    pub cpu_hot_add_enabled: bool,
    /// CPUs can be removed while it runs.
    pub cpu_hot_remove_enabled: bool,
    /// Memory can be added while it runs.
    pub memory_hot_add_enabled: bool,
    /// Never known.
    pub fault_tolerance_enabled: bool,
    /// CPUs in all.
    pub cpu_count: i32,
    /// Cores of a socket; 0 when unknown.
    pub cores_per_socket: i32,
    /// The memory, in its units.
    #[serde(rename = "MemoryMB")]
    pub memory_mb: i32,
    /// The memory's units.
    pub memory_units: String,
    /// The CPU item's units.
    pub cpu_units: String,
    /// Never known.
    pub ballooned_memory: i32,
    /// Never known.
    pub ip_address: String,
    /// Never known.
    #[serde(deserialize_with = "null_as_default")]
    pub numa_node_affinity: Vec<String>,
    /// Never known.
    pub storage_used: i64,
    /// Never known.
    pub change_tracking_enabled: bool,
    /// Its other devices.
    #[serde(deserialize_with = "null_as_default")]
    pub devices: Vec<Device>,
    /// Its network cards.
    #[serde(rename = "NICs", deserialize_with = "null_as_default")]
    pub nics: Vec<Nic>,
    /// Its disks.
    #[serde(deserialize_with = "null_as_default")]
    pub disks: Vec<VmDisk>,
    /// Its networks.
    #[serde(deserialize_with = "null_as_default")]
    pub networks: Vec<VmNetwork>,
    /// Ours: whether there is a TPM.
    pub tpm_enabled: bool,
    /// Ours: the memory in bytes.
    pub memory_bytes: u64,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// What it is.
    #[serde(alias = "Kind")]
    pub kind: String,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nic {
    /// Its name.
    #[serde(alias = "Name")]
    pub name: String,
    /// Its MAC address, or empty.
    #[serde(alias = "MAC")]
    pub mac: String,
    /// The network's name.
    #[serde(rename = "Network")]
    pub network: String,
    /// Never filled.
    #[serde(rename = "Config", deserialize_with = "null_as_default")]
    pub config: Vec<Setting>,
    /// Ours: the model.
    #[serde(rename = "Model")]
    pub model: String,
}

/// A key and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VmDisk {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The file's name in the appliance.
    pub name: String,
    /// The archive, or the folder (with a slash at its end) of an unpacked appliance.
    pub file_path: String,
    /// The capacity, in its units.
    pub capacity: i64,
    /// The units.
    pub capacity_allocation_units: String,
    /// Its id in the descriptor.
    pub disk_id: String,
    /// The file's id in the descriptor.
    pub file_ref: String,
    /// The format's URI.
    pub format: String,
    /// The bytes in use.
    pub populated_size: i64,
    /// Ours: the capacity in bytes; 0 when it is not usable.
    pub capacity_bytes: u64,
    /// Ours: the bus, when the descriptor tells.
    pub bus: Option<String>,
    /// Ours: which controller it is on.
    pub controller: Option<u32>,
    /// Ours: its place there.
    pub position: Option<u32>,
    /// Ours: where its bytes are; nothing for an empty disk.
    pub source: Option<DiskFile>,
}

/// Where a disk's bytes are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskFile {
    /// The archive or the file.
    pub path: String,
    /// The archive's member.
    pub member: Option<String>,
    /// The image format, when the descriptor tells.
    pub format: Option<String>,
    /// The compression (`gzip`).
    pub compression: Option<String>,
    /// Stored bytes.
    pub size: u64,
    /// When archive or file were modified, in nanoseconds since 1970.
    pub modified: i64,
    /// What the manifest says.
    pub digest: Option<Digest>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VmNetwork {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its id: the same for the same name in all appliances.
    #[serde(rename = "ID")]
    pub id: String,
}

/// How an appliance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplianceState {
    /// Its VMs are in the inventory.
    #[default]
    Ready,
    /// It is still being written.
    Copying,
    /// It cannot be used.
    Broken,
}

/// An appliance file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Appliance {
    /// The file's name.
    pub file: String,
    /// Its size.
    pub size: u64,
    /// When it was modified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The exporter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Its VMs.
    #[serde(deserialize_with = "null_as_default")]
    pub virtual_systems: Vec<SystemReference>,
    /// Ours: its path below the catalogue.
    pub path: String,
    /// Ours: how it is.
    pub state: ApplianceState,
    /// Ours: what is odd about it and does no harm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A VM of an appliance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemReference {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// The catalogue's generation: raised whenever something changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The number.
    pub generation: u64,
}
