//! What any source VM is, before it becomes a KubeVirt VM.
//!
//! Each provider translates its own inventory record into a [`Machine`]; everything after that (checks, mapping,
//! disks, the created `VirtualMachine`) is written once, for all sources. A machine is plain data: serialisable,
//! comparable, snapshot-tested.
//!
//! ```text
//! inventory record ──(provider)──► Machine ──► check · mapping · build
//! ```
use serde::{Deserialize, Serialize};

/// A source VM, independent of the provider it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// Stable id in the source's inventory (moRef, UUID, path hash).
    pub id: String,
    /// Name as the source shows it; not necessarily a valid Kubernetes name.
    pub name: String,
    /// BIOS/system UUID, empty when the source has none.
    pub uuid: String,
    /// Identity that survives re-registration (vSphere instance UUID); empty when the source has none.
    pub instance_uuid: String,
    /// Virtual processors.
    pub cpu: Cpu,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Firmware as the source describes it.
    pub firmware: Firmware,
    /// Guest operating system as the source describes it.
    pub guest: GuestOs,
    /// Disks in the order the guest sees them; this order gives the disk indexes.
    pub disks: Vec<Disk>,
    /// Network interfaces in the order the guest sees them.
    pub nics: Vec<Nic>,
    /// Power state in the inventory; the migration re-reads it from the source before it acts.
    pub power: PowerState,
    /// Host (ESXi, node) the VM runs on, for scheduling; empty when the source has none.
    pub host: String,
    /// Further properties that change what is built or checked.
    pub traits: MachineTraits,
    /// Concerns of the validation rules about this VM.
    pub concerns: Vec<Concern>,
    /// Shared disks that the plan leaves out, with their place among all disks: the target VM gets the volumes that
    /// were made of them with another VM. They are not in `disks`.
    pub left_out: Vec<LeftOut>,
    /// Tags that people gave it, in the source's order.
    pub tags: Vec<Tag>,
    /// Custom attributes that people gave it, in the source's order.
    pub attributes: Vec<Attribute>,
}

/// A shared disk that a plan leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeftOut {
    /// Its index among all disks of the VM.
    pub at: usize,
    /// The disk.
    pub disk: Disk,
}

/// A tag of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tag {
    /// Name.
    pub name: String,
    /// What it stands for; may be empty.
    pub description: String,
}

/// A custom attribute of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attribute {
    /// Name of the field.
    pub name: String,
    /// Its value on this VM.
    pub value: String,
}

/// Virtual processors and their topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Sockets.
    pub sockets: u32,
    /// Cores in each socket.
    pub cores: u32,
    /// Threads in each core; 0 leaves the field out of the created VM.
    pub threads: u32,
    /// Explicit model, where the source pins one.
    pub model: Option<String>,
    /// Whether processors are pinned.
    pub dedicated: bool,
    /// Whether nested virtualisation is switched on in the source; `None` when unknown.
    pub nested: Option<bool>,
}

impl Default for Cpu {
    fn default() -> Self {
        Self { sockets: 1, cores: 1, threads: 0, model: None, dedicated: false, nested: None }
    }
}

impl Cpu {
    /// Returns the topology of `count` processors with `cores_per_socket`, as vSphere and OVF state it.
    pub fn from_count(count: u32, cores_per_socket: u32) -> Self {
        let cores = cores_per_socket.max(1);
        Self { sockets: (count / cores).max(1), cores, ..Self::default() }
    }
}

/// Firmware of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Firmware {
    /// BIOS or UEFI.
    pub kind: FirmwareKind,
    /// Whether secure boot is on.
    pub secure_boot: bool,
}

/// BIOS or UEFI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirmwareKind {
    /// Legacy BIOS; also what an unknown firmware is treated as.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}

impl FirmwareKind {
    /// Reads the word of a descriptor or of virt-v2v (`bios`, `efi`, `uefi`); `None` for anything else.
    pub fn parse(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "bios" => Some(Self::Bios),
            "efi" | "uefi" => Some(Self::Uefi),
            _ => None,
        }
    }
}

/// Guest operating system as the source describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuestOs {
    /// The source's identifier (`rhel9_64Guest`, an OVF os id …); empty when unknown.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Host name the guest reports; empty when unknown.
    pub host_name: String,
    /// Family, where the identifier tells.
    pub family: OsFamily,
}

/// Family of a guest operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OsFamily {
    /// Not known.
    #[default]
    Unknown,
    /// Linux.
    Linux,
    /// Windows.
    Windows,
    /// Known, neither Linux nor Windows.
    Other,
}

/// A disk of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// Stable key of the disk in the source: the task name users see and the `disk-source` annotation
    /// (`[ds] vm/disk.vmdk`, `<file>::<disk>` for OVA).
    pub key: String,
    /// Name for people; the key when empty.
    pub name: String,
    /// Virtual size in bytes; 0 when the source could not tell.
    pub capacity: u64,
    /// Bus in the source.
    pub bus: DiskBus,
    /// Storage (datastore, domain, volume type) the disk is on: what the StorageMap maps.
    pub storage: ResourceRef,
    /// Letter of the drive in a Windows guest, where its agent tells; empty otherwise.
    pub drive_letter: String,
    /// Serial the guest sees; empty when the source has none.
    pub serial: String,
    /// Whether the source says that the VM boots from it.
    pub bootable: bool,
    /// Whether other VMs use it too, or may: a sharing mode, a shared bus, or one file in several VMs.
    pub shared: bool,
    /// The other VMs of the inventory whose disk is this one.
    pub users: Vec<DiskUser>,
    /// Raw device mapping.
    pub rdm: bool,
    /// The source's snapshots leave it out (independent mode).
    pub independent: bool,
    /// The source has it encrypted.
    pub encrypted: bool,
    /// Why nothing can read it (memory device, missing file …); empty when something can.
    pub unsupported: String,
    /// Change identity for changed-block tracking is available.
    pub changed_blocks: bool,
}

/// A VM that uses a disk of another one too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskUser {
    /// Id in the source.
    pub id: String,
    /// Name, for messages.
    pub name: String,
    /// Power state in the inventory.
    pub power: PowerState,
}

/// Reference to a network or storage of the source, by id and by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRef {
    /// Id in the inventory; empty when only the name is known.
    pub id: String,
    /// Name; empty when only the id is known.
    pub name: String,
    /// Qualifies the name (`pod`, `multus` …); usually empty.
    #[serde(rename = "type")]
    pub kind: String,
    /// Namespace, for OpenShift sources.
    pub namespace: String,
}

impl ResourceRef {
    /// Returns a reference with id and name.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), ..Self::default() }
    }

    /// Returns whether both mean the same resource: by id when both have one, else by name (and namespace).
    pub fn matches(&self, other: &Self) -> bool {
        if !self.id.is_empty() && !other.id.is_empty() {
            return self.id == other.id;
        }
        !self.name.is_empty()
            && self.name == other.name
            && (self.namespace.is_empty() || other.namespace.is_empty() || self.namespace == other.namespace)
    }

    /// Returns how messages show the reference: the name, else the id, else the type.
    pub fn display(&self) -> &str {
        [&self.name, &self.id, &self.kind].into_iter().find(|s| !s.is_empty()).map_or("?", String::as_str)
    }
}

/// Bus of a disk in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// SCSI controller.
    #[default]
    Scsi,
    /// SATA controller.
    Sata,
    /// IDE controller.
    Ide,
    /// NVMe controller.
    Nvme,
    /// virtio block.
    Virtio,
}

/// A network interface of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nic {
    /// Name in the source, for messages.
    pub name: String,
    /// MAC address, lower case with colons; empty when the source has none.
    pub mac: String,
    /// Network it is attached to: what the NetworkMap maps.
    pub network: ResourceRef,
    /// PCI address in the guest, where known.
    pub pci_address: Option<String>,
    /// Whether it is unplugged at start.
    pub disconnected: bool,
    /// Addresses the guest reported.
    pub addresses: Vec<GuestAddress>,
}

/// An address that the guest reported on a NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuestAddress {
    /// IPv4 or IPv6 address.
    pub ip: String,
    /// Prefix length.
    pub prefix: u8,
    /// `manual`, `dhcp`, `linklayer` …; empty when unknown.
    pub origin: String,
    /// Gateway of its family, empty when unknown.
    pub gateway: String,
    /// DNS servers.
    pub dns: Vec<String>,
}

/// Power state of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerState {
    /// Running (or paused, suspended: anything that still holds its disks).
    On,
    /// Powered off.
    Off,
    /// Not known, or a source without power control (files).
    #[default]
    Unknown,
}

/// The agent in a guest (VMware Tools).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tools {
    /// The source has no such thing.
    #[default]
    NotApplicable,
    /// Running.
    Running,
    /// Installed, but it does not run.
    NotRunning,
    /// Not installed.
    NotInstalled,
    /// The source does not know.
    Unknown,
}

/// State of the host that a VM is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostState {
    /// Fine, or nobody knows better.
    #[default]
    Ready,
    /// In maintenance.
    Maintenance,
    /// It does not answer the source.
    Disconnected,
}

/// Further properties that change what is built or checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineTraits {
    /// A template, not a VM.
    pub template: bool,
    /// The host does not answer for it (vSphere connection state).
    pub disconnected: bool,
    /// The source's word for that state (`orphaned`, `inaccessible` …), for messages.
    pub connection: String,
    /// The agent in the guest that shuts it down and tells its addresses.
    pub tools: Tools,
    /// The host it is on.
    pub host_state: HostState,
    /// The VM's configuration is encrypted.
    pub encrypted: bool,
    /// Whether a TPM is present; `None` where the source does not tell.
    pub tpm: Option<bool>,
    /// Time zone of its clock, where known.
    pub timezone: Option<String>,
    /// Changed-block tracking is on for the VM.
    pub change_tracking: bool,
    /// Snapshots that exist and are not ours.
    pub snapshots: u32,
    /// Names of snapshots that exist and bear the name of a migration's: a run that was lost left them.
    pub migration_snapshots: Vec<String>,
    /// Snapshot consolidation is needed.
    pub consolidation_needed: bool,
    /// Path in the source's folders, or of the appliance file.
    pub path: String,
    /// The exporter of the appliance is none of those that are known to work.
    pub unsupported_export: bool,
}

/// A finding of the validation rules about a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Concern {
    /// Stable id (`ova.source.unsupported`).
    pub id: String,
    /// `Critical`, `Warning`, `Information`, `Advisory` or `Error`.
    pub category: String,
    /// Short title.
    pub label: String,
    /// What it means for the migration.
    #[serde(alias = "message")]
    pub assessment: String,
}

impl Machine {
    /// Returns the identity that is compared before the source VM is powered off or on.
    pub fn identity(&self) -> VmIdentity {
        VmIdentity {
            id: self.id.clone(),
            uuid: if self.instance_uuid.is_empty() { self.uuid.clone() } else { self.instance_uuid.clone() },
            name: self.name.clone(),
        }
    }

    /// Returns the machine without its shared disks, which are kept in `left_out`.
    pub fn without_shared(mut self) -> Self {
        let disks = std::mem::take(&mut self.disks);
        for (at, disk) in disks.into_iter().enumerate() {
            if disk.shared {
                self.left_out.push(LeftOut { at, disk });
            } else {
                self.disks.push(disk);
            }
        }
        self
    }

    /// Returns the disk with this key and its index.
    pub fn disk(&self, key: &str) -> Option<(usize, &Disk)> {
        self.disks.iter().enumerate().find(|(_, disk)| disk.key == key)
    }
}

/// What tells one source VM from all others: id and instance UUID. The name is for messages only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmIdentity {
    /// Id in the source (moRef …).
    pub id: String,
    /// Instance UUID, or BIOS UUID where there is no other.
    pub uuid: String,
    /// Name, for messages.
    pub name: String,
}

impl PartialEq for VmIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.uuid.eq_ignore_ascii_case(&other.uuid)
    }
}
impl Eq for VmIdentity {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_of_an_odd_count_keeps_at_least_one_socket() {
        assert_eq!(
            (Cpu::from_count(1, 4).sockets, Cpu::from_count(6, 4).sockets, Cpu::from_count(2, 0).cores),
            (1, 1, 1)
        );
        assert_eq!((Cpu::from_count(8, 2).sockets, Cpu::from_count(8, 2).cores), (4, 2));
    }

    #[test]
    fn references_match_by_id_before_name() {
        let by_id = ResourceRef::new("net-1", "");
        assert!(by_id.matches(&ResourceRef::new("net-1", "renamed")));
        assert!(!ResourceRef::new("net-1", "same").matches(&ResourceRef::new("net-2", "same")));
        assert!(ResourceRef::new("", "same").matches(&ResourceRef::new("net-2", "same")));
        assert!(!ResourceRef::default().matches(&ResourceRef::default()));
    }

    #[test]
    fn identity_ignores_the_name() {
        let machine =
            Machine { id: "vm-1".into(), instance_uuid: "AB".into(), name: "old".into(), ..Machine::default() };
        assert_eq!(machine.identity(), VmIdentity { id: "vm-1".into(), uuid: "ab".into(), name: "new".into() });
    }
}
