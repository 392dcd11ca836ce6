//! A VM as it is kept.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Bridge, Controller, Device, Disk, GuestDisk, GuestNetwork, IpStack, Nic, Ref, Word};

/// A virtual machine or template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vm {
    /// Name, without vCenter's escapes.
    pub name: Box<str>,
    /// The folder it is in; none for VMs of a vApp.
    pub parent: Ref,
    /// Id of the host it is registered with.
    pub host: Word,
    /// BIOS UUID.
    pub uuid: Box<str>,
    /// UUID that the vCenter keeps unique.
    pub instance_uuid: Box<str>,
    /// `bios` or `efi`.
    pub firmware: Word,
    /// `poweredOn`, `poweredOff`, `suspended`.
    pub power_state: Word,
    /// `connected`, `disconnected`, `orphaned`, `inaccessible`, `invalid`.
    pub connection_state: Word,
    /// Processors it is pinned to.
    pub cpu_affinity: Box<[i32]>,
    /// Virtual processors.
    pub cpu_count: i32,
    /// Cores in a socket.
    pub cores_per_socket: i32,
    /// Memory in MiB.
    pub memory_mb: i32,
    /// Memory that the balloon took, in MiB.
    pub ballooned_memory: i32,
    /// Bytes on datastores.
    pub storage_used: i64,
    /// Name of the guest system that was configured.
    pub guest_name: Word,
    /// Name of the guest system that the tools report.
    pub guest_name_from_tools: Word,
    /// Identifier of the guest system, last reported.
    pub guest_id: Word,
    /// Identifier of the guest system that was configured.
    pub configured_guest_id: Word,
    /// Host name of the guest, last reported.
    pub host_name: Box<str>,
    /// Primary address of the guest, last reported.
    pub ip_address: Box<str>,
    /// It is a template.
    pub is_template: bool,
    /// Processors can be added while it runs.
    pub cpu_hot_add: bool,
    /// Processors can be removed while it runs.
    pub cpu_hot_remove: bool,
    /// Memory can be added while it runs.
    pub memory_hot_add: bool,
    /// Fault tolerance is configured.
    pub fault_tolerance: bool,
    /// A TPM is present.
    pub tpm: bool,
    /// EFI secure boot.
    pub secure_boot: bool,
    /// Device key of the disk that is tried first; none where the firmware decides.
    pub boot_disk: Option<i32>,
    /// Hardware virtualisation is passed to the guest.
    pub nested: bool,
    /// Disks of removed snapshots wait for consolidation.
    pub consolidation_needed: bool,
    /// Its files are encrypted.
    pub encrypted: bool,
    /// `config.changeTrackingEnabled`.
    pub change_tracking: Option<bool>,
    /// What is kept of the extra configuration.
    pub extra: super::Extra,
    /// Networks, as references.
    pub networks: Box<[Ref]>,
    /// Controllers of disks.
    pub controllers: Box<[Controller]>,
    /// Disks, in the devices' order.
    pub disks: Box<[Disk]>,
    /// Devices that matter to a migration: passthrough, USB controllers, NICs.
    pub devices: Box<[Device]>,
    /// NICs with a backing, in the guest's order where it is known.
    pub nics: Box<[Nic]>,
    /// Addresses that the guest reported last.
    pub guest_networks: Box<[GuestNetwork]>,
    /// Filesystems that the guest reported last.
    pub guest_disks: Box<[GuestDisk]>,
    /// Routes with a gateway that the guest reported last.
    pub ip_stacks: Box<[IpStack]>,
    /// `toolsOk`, `toolsNotRunning`, `toolsNotInstalled`, `toolsOld`.
    pub tools_status: Word,
    /// `guestToolsRunning`, `guestToolsNotRunning`.
    pub tools_running_status: Word,
    /// `guestToolsCurrent`, `guestToolsNotInstalled` …
    pub tools_version_status: Word,
    /// Snapshots.
    pub snapshots: Snapshots,
    /// Definitions of custom attributes, shared by all VMs.
    pub custom_fields: Arc<[CustomField]>,
    /// Values of custom attributes.
    pub custom_values: Box<[CustomValue]>,
    /// Tags, each shared by the VMs that have it.
    pub tags: Box<[Arc<Tag>]>,
}

/// Snapshots of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshots {
    /// Id of the current one; empty when there is none.
    pub current: Box<str>,
    /// How many there are that no migration took.
    pub foreign: u32,
    /// Names of those that a migration took.
    pub ours: Box<[Box<str>]>,
}

/// Definition of a custom attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CustomField {
    /// Name.
    pub name: Word,
    /// Key by which values refer to it.
    pub key: i32,
    /// The only type of objects that may have it; empty for all.
    #[serde(rename = "managedObjectType", default, skip_serializing_if = "is_empty")]
    pub managed_type: Word,
}

/// Value of a custom attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomValue {
    /// Key of its definition.
    pub key: i32,
    /// The value.
    pub value: Box<str>,
}

/// A tag of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Id, a URN.
    pub id: Box<str>,
    /// Description; upstream makes it the label's value.
    pub description: Box<str>,
    /// Name; upstream makes it the label's key.
    pub name: Box<str>,
    /// Id of its category.
    #[serde(rename = "categoryID")]
    pub category_id: Box<str>,
    /// Who uses it, as the tagging service says.
    #[serde(rename = "usedBy")]
    pub used_by: Box<[Box<str>]>,
}

pub(super) fn is_empty(word: &Word) -> bool {
    word.is_empty()
}

impl Vm {
    /// Returns whether changed blocks can be told; what the extra configuration says comes first, as it is what the
    /// host obeys.
    pub fn changes_tracked(&self) -> bool {
        self.extra.ctk.or(self.change_tracking).unwrap_or(false)
    }

    /// Returns whether it is one of those that upstream hides: registered nowhere, with no identity.
    pub fn is_ghost(&self) -> bool {
        self.uuid.is_empty() && self.instance_uuid.is_empty() && self.host.is_empty()
    }

    /// Returns a disk by its device key.
    pub fn disk(&self, key: i32) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.key == key)
    }

    /// Returns a controller by its device key.
    pub fn controller(&self, key: i32) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.key == key)
    }

    /// Returns the topology by which PCI slots become addresses.
    pub fn bridges(&self) -> &[Bridge] {
        &self.extra.bridges
    }

    /// Returns whether a tag or custom attribute could become a label or annotation.
    pub fn has_metadata(&self) -> bool {
        !self.tags.is_empty() || !self.custom_values.is_empty()
    }
}
