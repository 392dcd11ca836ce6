//! Virtual devices: disks, their controllers, NICs, and what cannot migrate.

use serde::{Deserialize, Serialize};

use super::{Ref, Vm, Word};
use crate::vsphere::vim::Element;

/// A controller that disks are on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Device key.
    pub key: i32,
    /// `scsi`, `sata`, `ide`, `nvme`, `usb`.
    pub bus: Word,
    /// Number among the controllers of its kind.
    pub number: i32,
    /// Several VMs may be on its bus (`virtualSharing`, `physicalSharing`).
    pub shared: bool,
}

/// A virtual disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Device key.
    pub key: i32,
    /// Place on the controller.
    pub unit_number: i32,
    /// Device key of the controller.
    pub controller_key: i32,
    /// `[datastore] folder/name.vmdk`, with the suffix of a snapshot.
    pub file: Box<str>,
    /// The datastore.
    pub datastore: Ref,
    /// Bytes.
    pub capacity: i64,
    /// Several VMs of the inventory have this file.
    pub shared: bool,
    /// Raw device mapping.
    pub rdm: bool,
    /// Raw device mapping without virtualisation.
    pub physical_mode: bool,
    /// Bus of the controller; empty where it has none that is known.
    pub bus: Word,
    /// `persistent`, `independent_persistent` …
    pub mode: Word,
    /// UUID of the backing, which guests see as serial.
    pub serial: Box<str>,
    /// Drive letter in a Windows guest, lower case.
    pub win_drive_letter: Option<char>,
    /// Changed blocks are tracked for this disk.
    pub change_tracking: bool,
    /// File of the parent disk; empty for a base disk.
    pub parent: Box<str>,
    /// Name of the mapped device.
    pub device_name: Box<str>,
    /// Id of the vVol.
    pub vvol_id: Box<str>,
    /// UUID of the mapped LUN.
    pub lun_uuid: Box<str>,
    /// What JSON does not show.
    pub hidden: Hidden,
}

/// Facts of a disk that JSON does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Its mode of sharing lets several VMs write it.
    pub multi_writer: bool,
    /// It is encrypted.
    pub encrypted: bool,
    /// It is in the host's persistent memory, where nothing reads it from outside.
    pub memory: bool,
}

/// A device that matters to a migration; JSON has upstream's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Type in the API: `VirtualVmxnet3`.
    pub kind: Word,
    /// Device key.
    pub key: i32,
    /// Slot on the PCI bus, packed; 0 without one.
    pub pci_slot_number: i32,
}

/// A network card with a backing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Name in the VM's configuration: `Network adapter 1`.
    pub label: Word,
    /// Id of the network; key of a port group or of an opaque network.
    pub network: Word,
    /// MAC address, lower case.
    pub mac: Box<str>,
    /// Place among the cards.
    pub order: i32,
    /// Device key.
    pub device_key: i32,
    /// Slot on the PCI bus, packed; 0 without one.
    pub slot: i32,
    /// Connected when the VM starts.
    pub start_connected: bool,
}

/// The bus of a controller type.
fn bus(controller: &str) -> Option<&'static str> {
    Some(match controller {
        "VirtualIDEController" => "ide",
        "VirtualSCSIController"
        | "VirtualBusLogicController"
        | "VirtualLsiLogicController"
        | "VirtualLsiLogicSASController"
        | "ParaVirtualSCSIController" => "scsi",
        "VirtualSATAController" | "VirtualAHCIController" => "sata",
        "VirtualUSBController" | "VirtualUSBXHCIController" => "usb",
        "VirtualNVMEController" => "nvme",
        _ => return None,
    })
}

/// Devices that are listed wherever they are.
const LISTED: [&str; 4] =
    ["VirtualSriovEthernetCard", "VirtualPCIPassthrough", "VirtualSCSIPassthrough", "VirtualUSBController"];

impl Vm {
    /// Takes all devices.
    pub(super) fn set_devices(&mut self, devices: &Element) {
        self.controllers = Box::default();
        self.disks = Box::default();
        self.devices = Box::default();
        self.nics = Box::default();
        let mut new = New::default();
        for device in devices.items() {
            new.add(device);
        }
        self.take(new);
    }

    /// Takes one device, or its removal.
    pub(super) fn set_device(&mut self, key: i32, device: Option<&Element>) {
        let mut new = New {
            controllers: self.controllers.iter().filter(|c| c.key != key).cloned().collect(),
            disks: self.disks.iter().filter(|d| d.key != key).cloned().collect(),
            devices: self.devices.iter().filter(|d| d.key != key).cloned().collect(),
            nics: self.nics.iter().filter(|n| n.device_key != key).cloned().collect(),
        };
        // the order of cards is theirs in the configuration, whatever the guest's is
        new.nics.sort_by_key(|nic| nic.order);
        if let Some(device) = device {
            new.add(device);
        }
        self.take(new);
    }

    fn take(&mut self, new: New) {
        let New { controllers, disks, devices, mut nics } = new;
        for (order, nic) in (0..).zip(&mut nics) {
            nic.order = order;
        }
        (self.controllers, self.disks) = (controllers.into(), disks.into());
        (self.devices, self.nics) = (devices.into(), nics.into());
        self.relate_disks();
        self.sort_nics();
    }

    /// Derives what disks have from controllers, guest and extra configuration.
    pub(super) fn relate_disks(&mut self) {
        let mut disks = std::mem::take(&mut self.disks);
        for disk in &mut disks {
            let controller = self.controller(disk.controller_key);
            disk.bus = controller.map(|c| c.bus.clone()).unwrap_or_default();
            // keys of controllers hold their number: 1000 is scsi0, 15001 sata1
            let number = controller.map_or(disk.controller_key % 100, |c| c.number);
            disk.change_tracking = self.extra.is_tracked(&disk.bus, number, disk.unit_number);
            disk.win_drive_letter =
                self.guest_disks.iter().find(|g| g.key == disk.key).and_then(|g| drive_letter(&g.disk_path));
        }
        self.disks = disks;
    }

    /// Puts the cards into the order in which the guest reports them; those that it does not report come last.
    pub(super) fn sort_nics(&mut self) {
        let networks = &self.guest_networks;
        let place = |nic: &Nic| networks.iter().find(|n| n.mac == nic.mac).map_or(i32::MAX, |n| n.device);
        self.nics.sort_by_key(|nic| (place(nic), nic.order));
    }
}

/// Devices on their way in.
#[derive(Default)]
struct New {
    controllers: Vec<Controller>,
    disks: Vec<Disk>,
    devices: Vec<Device>,
    nics: Vec<Nic>,
}

impl New {
    fn add(&mut self, device: &Element) {
        let kind = device.xsi_type.as_deref().unwrap_or_default();
        let key = int(device, "key");
        if let Some(bus) = bus(kind) {
            let shared = matches!(device.text("sharedBus"), Some("virtualSharing" | "physicalSharing"));
            self.controllers.push(Controller { key, bus: bus.into(), number: int(device, "busNumber"), shared });
        }
        if kind == "VirtualDisk" {
            self.disks.extend(disk(device));
        }
        let is_nic = is_connected_nic(kind, device);
        let pci_slot_number = int(device, "slotInfo.pciSlotNumber");
        if is_nic || LISTED.contains(&kind) {
            self.devices.push(Device { kind: kind.into(), key, pci_slot_number });
        }
        if is_nic {
            self.nics.push(Nic {
                label: device.text("deviceInfo.label").unwrap_or_default().into(),
                network: nic_network(device),
                mac: device.text("macAddress").unwrap_or_default().to_ascii_lowercase().into(),
                order: 0,
                device_key: key,
                slot: pci_slot_number,
                start_connected: device.bool("connectable.startConnected").unwrap_or(true),
            });
        }
    }
}

/// Cards with a network; SR-IOV ones are passthrough devices instead. Types that come after this was written have a
/// MAC address, as all cards do.
fn is_connected_nic(kind: &str, device: &Element) -> bool {
    kind != "VirtualSriovEthernetCard" && device.get("macAddress").is_some() && device.get("backing").is_some()
}

fn nic_network(device: &Element) -> Word {
    let Some(backing) = device.get("backing") else { return Word::default() };
    let id = ["network", "port.portgroupKey", "opaqueNetworkId"].into_iter().find_map(|path| backing.text(path));
    id.unwrap_or_default().into()
}

fn disk(device: &Element) -> Option<Disk> {
    let backing = device.get("backing")?;
    let kind = backing.xsi_type.as_deref().unwrap_or_default();
    let text = |path: &str| -> Box<str> { backing.text(path).unwrap_or_default().into() };
    let sharing = backing.text("sharing").unwrap_or_default();
    let rdm = matches!(
        kind,
        "VirtualDiskRawDiskMappingVer1BackingInfo"
            | "VirtualDiskRawDiskVer2BackingInfo"
            | "VirtualDiskPartitionedRawDiskVer2BackingInfo"
    );
    let raw = rdm && kind != "VirtualDiskRawDiskMappingVer1BackingInfo";
    let bytes =
        device.int("capacityInBytes").or_else(|| device.int("capacityInKB").map(|kib| kib.saturating_mul(1024)));
    Some(Disk {
        key: int(device, "key"),
        unit_number: int(device, "unitNumber"),
        controller_key: int(device, "controllerKey"),
        file: if raw { text("descriptorFileName") } else { text("fileName") },
        datastore: Ref::read(backing.get("datastore")),
        capacity: bytes.unwrap_or(0),
        rdm,
        physical_mode: raw || (rdm && backing.text("compatibilityMode") == Some("physicalMode")),
        mode: backing.text("diskMode").unwrap_or_default().into(),
        serial: text("uuid"),
        parent: text("parent.fileName"),
        device_name: text("deviceName"),
        vvol_id: text("backingObjectId"),
        lun_uuid: text("lunUuid"),
        hidden: Hidden {
            multi_writer: !matches!(sharing, "" | "sharingNone"),
            encrypted: backing.get("keyId").is_some(),
            memory: kind == "VirtualDiskLocalPMemBackingInfo",
        },
        // the rest is derived
        ..Disk::default()
    })
}

/// Returns the letter of `C:\`, lower case.
fn drive_letter(path: &str) -> Option<char> {
    let mut chars = path.chars();
    let letter = chars.next().filter(char::is_ascii_alphabetic)?;
    matches!(chars.as_str(), ":\\" | ":/").then(|| letter.to_ascii_lowercase())
}

/// Numbers of the API that are missing are 0, as in upstream.
pub(super) fn int(element: &Element, path: &str) -> i32 {
    element.int(path).and_then(|number| i32::try_from(number).ok()).unwrap_or(0)
}

/// Returns the key of a disk: its file without the suffix of a snapshot's delta, `-000001`. It stays the same while
/// snapshots come and go; upstream names tasks and volumes by it.
pub fn disk_key(file: &str) -> String {
    let digits = |suffix: &str| suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_digit());
    let trimmed =
        file.strip_suffix(".vmdk").and_then(|stem| stem.rsplit_once('-')).filter(|(_, suffix)| digits(suffix));
    trimmed.map_or_else(|| file.to_owned(), |(stem, _)| format!("{stem}.vmdk"))
}

#[cfg(test)]
mod tests {
    use super::{disk_key, drive_letter};

    #[test]
    fn drive_letters_are_those_of_whole_drives() {
        for (path, letter) in [("C:\\", Some('c')), ("d:/", Some('d')), ("/", None), ("C:\\data", None), ("1:\\", None)]
        {
            assert_eq!(drive_letter(path), letter, "{path}");
        }
    }

    #[test]
    fn keys_lose_the_suffix_of_snapshots() {
        for (file, key) in [
            ("[ds] vm/disk-000015.vmdk", "[ds] vm/disk.vmdk"),
            ("[ds] vm/disk-00001.vmdk", "[ds] vm/disk-00001.vmdk"),
            ("[ds] vm-000001/disk.vmdk", "[ds] vm-000001/disk.vmdk"),
            ("", ""),
        ] {
            assert_eq!(disk_key(file), key);
        }
    }
}
