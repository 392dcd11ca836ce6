//! The inventory of a vCenter as typed records, small enough for 100,000 VMs.
//!
//! ```text
//! ObjectUpdate (paths, XML) ── apply ──► Vm, Host, … (native) ── show ──► upstream's JSON
//!                                            └── machine ──► Machine
//! ```
//! A record keeps what JSON, checks and migration need and nothing else; texts
//! that repeat are [`Word`]s. Field names and their order in JSON are upstream's
//! (`pkg/controller/provider/web/vsphere`).

mod datastore;
mod devices;
mod extra;
mod guest;
mod host;
mod network;
mod places;
mod show;
mod vm;
mod vm_apply;
mod word;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

pub use datastore::Datastore;
pub use devices::{Controller, Device, Disk, Nic, disk_key};
pub use extra::{Bridge, Extra, pci_address};
pub use guest::{GuestDisk, GuestNetwork, IpStack};
pub use host::{Adapter, Host, PhysicalNic, PortGroup, ScsiDisk, Switch, VirtualNic};
pub use network::{Network, SwitchHost};
pub use places::{Cluster, Datacenter, Folder};
pub use vm::{CustomField, CustomValue, Snapshots, Tag, Vm};
pub use word::Word;

use super::vim::{Element, MoRef};

/// A reference as upstream shows it: `{"kind":"Host","id":"host-12"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ref {
    /// Upstream's name of the kind; empty when there is no reference.
    pub kind: Word,
    /// The id.
    pub id: Word,
}

impl Ref {
    /// Returns the reference to an object.
    pub fn to(object: &MoRef) -> Self {
        let id = if object.kind == "Datastore" { datastore_id(&object.value) } else { object.value.as_str().into() };
        Self { kind: kind_of(&object.kind).into(), id }
    }

    /// Returns the reference in a value; an empty one where there is none.
    pub fn read(value: Option<&Element>) -> Self {
        value.and_then(|v| v.moref("")).map(|object| Self::to(&object)).unwrap_or_default()
    }

    /// Returns the references in a list.
    pub fn list(value: Option<&Element>) -> Box<[Self]> {
        value.map(|v| v.morefs("")).unwrap_or_default().iter().map(Self::to).collect()
    }

    /// Returns whether it refers to nothing.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }
}

/// Returns upstream's name for a managed object type; the type itself where it has none.
pub fn kind_of(managed_type: &str) -> &str {
    match managed_type {
        "Folder" | "StoragePod" => "Folder",
        "Datacenter" => "Datacenter",
        "ClusterComputeResource" | "ComputeResource" => "Cluster",
        "HostSystem" => "Host",
        "Network"
        | "OpaqueNetwork"
        | "DistributedVirtualPortgroup"
        | "DistributedVirtualSwitch"
        | "VmwareDistributedVirtualSwitch" => "Network",
        "Datastore" => "Datastore",
        "VirtualMachine" => "VM",
        other => other,
    }
}

/// The property changes could not be applied to a record: the whole property is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// The property that has to be read again.
    pub property: String,
}

/// A record that property changes are applied to.
pub trait Tracked: Default + Clone + PartialEq {
    /// Returns a new record of an object of this managed object type.
    fn of_type(_managed_type: &str) -> Self {
        Self::default()
    }

    /// Takes one property; no value where it is unset.
    ///
    /// Values that cannot be understood leave the property as it was: one odd
    /// object must not lose the others.
    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial>;

    /// Returns the name and the parent that paths are made of.
    fn place(&self) -> (&str, &Ref);

    /// Returns what remains of it when the whole object is told anew.
    fn entered(&self) -> Self;
}

/// Returns a name as users see it: vCenter escapes `/`, `\` and `%` in names.
pub(crate) fn unescaped(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        // like upstream's decoder: one bad escape, and the name stays as it is
        let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else { return name.to_owned() };
        out.push(u8::try_from(high * 16 + low).unwrap_or_default());
        at += 3;
    }
    String::from_utf8(out).unwrap_or_else(|_| name.to_owned())
}

/// Returns the id under which a datastore is known.
///
/// ESXi's ids of NFS datastores are paths, which would break links; upstream
/// shows their MD5 digest instead, and plans refer to that.
pub fn datastore_id(id: &str) -> Word {
    // what Go's url.PathEscape leaves alone
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&b);
    if id.bytes().all(plain) {
        return id.into();
    }
    let hex: String = Md5::digest(id.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    hex.as_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_escapes() {
        for (name, shown) in [("a%2fb", "a/b"), ("50%25", "50%"), ("100%", "100%"), ("%zz", "%zz"), ("ä%5c", "ä\\")] {
            assert_eq!(unescaped(name), shown);
        }
    }

    #[test]
    fn ids_of_datastores_that_are_paths_are_upstreams() {
        assert_eq!(datastore_id("datastore-12"), "datastore-12");
        // printf '10.11.12.13:/vol/virtv2v/function' | md5sum
        assert_eq!(datastore_id("10.11.12.13:/vol/virtv2v/function"), "6deeb3da80af0b95710142d98907dbf8");
    }
}
