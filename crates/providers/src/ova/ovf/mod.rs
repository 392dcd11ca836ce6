//! OVF descriptors, in the dialects of their exporters.
//!
//! The standard leaves much to the exporter and exporters take more, so the
//! parser goes by local names (namespaces differ between OVF 0.9, 1.x and 2.x),
//! takes each fact from wherever a dialect puts it, and refuses only what would
//! make a wrong machine.
//!
//! | exporter | known by | its own ways |
//! |---|---|---|
//! | VMware | `http://www.vmware.com/schema/ovf` | `vmw:Config`, `vmw:ExtraConfig`, `vmw:CoresPerSocket`, units like `byte * 2^30` |
//! | VirtualBox | `http://www.virtualbox.org/ovf/machine` | `vbox:Machine` holds MAC addresses, firmware and TPM; capacity without units |
//! | oVirt | `http://www.ovirt.org/ovf`, or its `Section`/`Content` elements | sizes in GiB, formats in `volume-format`, `BiosType`, sockets × cores × threads |
//! | Xen | Citrix's two namespaces | VHD disks, firmware among `VirtualSystemOtherConfigurationData` |

mod hardware;
mod parse;
mod system;
#[cfg(test)]
mod tests;
pub mod units;

use std::fmt;

/// The product that wrote a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exporter {
    /// vSphere, Workstation, Fusion, ovftool.
    VMware,
    /// VirtualBox.
    VirtualBox,
    /// XenServer, XCP-ng, XenClient.
    Xen,
    /// oVirt, RHV.
    OVirt,
    /// None that is known.
    #[default]
    Unknown,
}

impl fmt::Display for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VMware => "VMware",
            Self::VirtualBox => "VirtualBox",
            Self::Xen => "Xen",
            Self::OVirt => "oVirt",
            Self::Unknown => "Unknown",
        })
    }
}

/// Why a descriptor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OvfError {
    /// It is not XML.
    #[error("the descriptor is not well-formed XML: {0}")]
    Xml(#[from] roxmltree::Error),
    /// It is XML, but no OVF.
    #[error("the descriptor's root element is <{0}>, not <Envelope>")]
    NotAnEnvelope(String),
    /// There is no VM in it.
    #[error("the descriptor describes no virtual system")]
    NoSystem,
    /// A number is not one.
    #[error("{what} of {of} is {value:?}, which is not a number")]
    Number {
        /// The field.
        what: &'static str,
        /// Whose field it is.
        of: String,
        /// What stands there.
        value: String,
    },
    /// A unit that nobody defined.
    #[error("{of} has the allocation units {units:?}, which are not known")]
    Units {
        /// Whose they are.
        of: String,
        /// What stands there.
        units: String,
    },
    /// A reference that leads nowhere.
    #[error("{from} refers to {to:?}, which the descriptor does not have")]
    Dangling {
        /// Who refers.
        from: String,
        /// To what.
        to: String,
    },
    /// A disk that holds only the differences to another.
    #[error("disk {0} is a delta of another disk: export the VM without snapshots")]
    Delta(String),
}

/// What a descriptor says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptor {
    /// Who wrote it.
    pub exporter: Exporter,
    /// The files of the appliance.
    pub files: Vec<FileReference>,
    /// The disks, in their section's order.
    pub disks: Vec<Disk>,
    /// The networks.
    pub networks: Vec<Network>,
    /// The VMs.
    pub systems: Vec<System>,
}

impl Descriptor {
    /// Reads a descriptor's text.
    pub fn parse(text: &str) -> Result<Self, OvfError> {
        parse::descriptor(text)
    }

    /// Returns a file by its id.
    pub fn file(&self, id: &str) -> Option<&FileReference> {
        self.files.iter().find(|f| f.id == id)
    }

    /// Returns a disk by its id.
    pub fn disk(&self, id: &str) -> Option<&Disk> {
        self.disks.iter().find(|d| d.id == id)
    }
}

/// A file of the appliance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileReference {
    /// Its id in the descriptor.
    pub id: String,
    /// Where it is, as written.
    pub href: String,
    /// Its stored size.
    pub size: Option<u64>,
    /// Its compression (`gzip`).
    pub compression: Option<String>,
    /// The size of its pieces, when it is split.
    pub chunk_size: Option<u64>,
}

/// A virtual disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disk {
    /// Its id in the descriptor.
    pub id: String,
    /// The file with its contents; `None` for an empty disk.
    pub file: Option<String>,
    /// Its capacity, in its units.
    pub capacity: i64,
    /// The units, as written; empty means bytes.
    pub units: String,
    /// Its capacity in bytes; `None` when it is zero or less.
    pub capacity_bytes: Option<u64>,
    /// The format's URI, as written.
    pub format: String,
    /// The image format, when the descriptor tells: `vmdk`, `qcow2`, `raw`, `vhd`, `vhdx`.
    pub image_format: Option<&'static str>,
    /// The bytes in use, when the descriptor tells.
    pub populated: i64,
    /// The bus that oVirt writes at the disk itself.
    pub bus: Option<Bus>,
    /// Whether oVirt marks it as bootable.
    pub bootable: bool,
}

/// A network that VMs connect to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
}

/// The bus that a disk is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bus {
    /// SCSI of any controller model.
    Scsi,
    /// SATA (AHCI).
    Sata,
    /// IDE.
    Ide,
    /// NVMe.
    Nvme,
    /// virtio-blk.
    Virtio,
}

impl Bus {
    /// Returns the name that the inventory shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Ide => "ide",
            Self::Nvme => "nvme",
            Self::Virtio => "virtio",
        }
    }
}

/// A VM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct System {
    /// Its id; a UUID from some exporters.
    pub id: String,
    /// Its name; its id where it has none.
    pub name: String,
    /// The guest's operating system, in the exporter's words.
    pub os_type: String,
    /// CPUs in all.
    pub cpus: i64,
    /// Cores of each socket; 0 when the descriptor does not tell.
    pub cores_per_socket: i64,
    /// The units of the CPU item, as written.
    pub cpu_units: String,
    /// The memory, in its units.
    pub memory: i64,
    /// The units, as written.
    pub memory_units: String,
    /// The memory in bytes.
    pub memory_bytes: u64,
    /// `bios`, `efi`, or empty when the descriptor does not tell.
    pub firmware: String,
    /// Whether the firmware checks signatures.
    pub secure_boot: bool,
    /// Whether there is a TPM.
    pub tpm: bool,
    /// CPUs can be added while it runs.
    pub cpu_hot_add: bool,
    /// CPUs can be removed while it runs.
    pub cpu_hot_remove: bool,
    /// Memory can be added while it runs.
    pub memory_hot_add: bool,
    /// Its network cards, in order.
    pub nics: Vec<Nic>,
    /// Its disks, in the order in which its firmware sees them.
    pub disks: Vec<Attachment>,
    /// Its other devices, by kind.
    pub devices: Vec<String>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its MAC address with colons; empty when the descriptor does not tell.
    pub mac: String,
    /// The network's name.
    pub network: String,
    /// The model (`VmxNet3`, `E1000`, …), as written.
    pub model: String,
}

/// A disk at its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// The disk's id.
    pub disk: String,
    /// The bus, when the descriptor tells.
    pub bus: Option<Bus>,
    /// Which controller it is on, counted over all controllers.
    pub controller: Option<u32>,
    /// Its place there.
    pub position: Option<u32>,
}
