//! The extra configuration of a VM: the few of its many keys that count.

use serde::{Deserialize, Serialize};

use super::Word;
use crate::vsphere::vim::Element;

/// What is kept of `config.extraConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// `ctkEnabled`.
    pub ctk: Option<bool>,
    /// Disks with `<bus><controller>:<unit>.ctkEnabled` on: `scsi0:1`.
    pub ctk_disks: Box<[Word]>,
    /// `disk.EnableUUID`.
    pub disk_uuid: bool,
    /// `numa.nodeAffinity`, split at commas.
    pub numa_nodes: Box<[Word]>,
    /// `pciBridgeN.…`, in the order of the buses behind them.
    pub bridges: Box<[Bridge]>,
}

/// A PCI bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Number in the key.
    pub number: i32,
    /// Slot on the primary bus.
    pub slot: i32,
    /// Buses behind it; 0 where nothing is said.
    pub functions: i32,
}

impl Extra {
    /// Reads all keys.
    pub(super) fn read(options: &Element) -> Self {
        let mut extra = Self::default();
        for option in options.items() {
            if let Some(key) = option.text("key") {
                extra.set(key, option.text("value"));
            }
        }
        extra
    }

    /// Takes one key, or its removal. A value that is no truth value is one that is not there.
    pub(super) fn set(&mut self, key: &str, value: Option<&str>) {
        let lower = key.to_ascii_lowercase();
        match lower.as_str() {
            "ctkenabled" => self.ctk = value.and_then(truth),
            "disk.enableuuid" => self.disk_uuid = value.and_then(truth).unwrap_or(false),
            "numa.nodeaffinity" => {
                let nodes = value.filter(|v| !v.is_empty()).map(|v| v.split(',').map(Word::new).collect());
                self.numa_nodes = nodes.unwrap_or_default();
            }
            _ => {
                if let Some(disk) = lower.strip_suffix(".ctkenabled").filter(|disk| is_disk(disk)) {
                    self.track(disk, value.and_then(truth).unwrap_or(false));
                } else if let Some(rest) = key.strip_prefix("pciBridge") {
                    self.set_bridge(rest, value);
                }
            }
        }
    }

    fn track(&mut self, disk: &str, on: bool) {
        let mut disks: Vec<Word> = std::mem::take(&mut self.ctk_disks).into_vec();
        disks.retain(|known| *known != disk);
        if on {
            disks.push(disk.into());
        }
        self.ctk_disks = disks.into();
    }

    /// Returns whether the blocks of the disk at this place are tracked.
    pub(super) fn is_tracked(&self, bus: &str, controller: i32, unit: i32) -> bool {
        !self.ctk_disks.is_empty() && {
            let place = format!("{bus}{controller}:{unit}");
            self.ctk_disks.iter().any(|disk| *disk == place.as_str())
        }
    }

    fn set_bridge(&mut self, rest: &str, value: Option<&str>) {
        let Some((Ok(number), property)) = rest.split_once('.').map(|(n, p)| (n.parse::<i32>(), p)) else { return };
        let value: Option<i32> = value.and_then(|v| v.trim().parse().ok());
        let mut bridges: Vec<Bridge> = std::mem::take(&mut self.bridges).into_vec();
        if !bridges.iter().any(|bridge| bridge.number == number) {
            // without a slot it is no bridge yet
            bridges.push(Bridge { number, slot: -1, functions: 0 });
        }
        for bridge in bridges.iter_mut().filter(|bridge| bridge.number == number) {
            match property {
                "pciSlotNumber" => bridge.slot = value.unwrap_or(-1),
                "functions" => bridge.functions = value.unwrap_or(0),
                _ => {}
            }
        }
        bridges.retain(|bridge| bridge.slot >= 0 || bridge.functions > 0);
        // buses are numbered in the order of the bridges' devices
        bridges.sort_by_key(|bridge| (bridge.slot & DEVICE, bridge.number));
        self.bridges = bridges.into();
    }
}

/// Truth values as Go's `strconv.ParseBool` takes them, and `yes`/`no`.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" => Some(true),
        "0" | "f" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn is_disk(place: &str) -> bool {
    ["scsi", "sata", "ide", "nvme"].iter().any(|bus| place.starts_with(bus))
}

// A slot number is packed as FFF.BBBBB.DDDDD: function of the bridge, bridge (0: the primary bus), device.
// https://knowledge.broadcom.com/external/article/311606
const DEVICE: i32 = 0x1f;
const BRIDGE_SHIFT: i32 = 5;
const BRIDGE: i32 = 0x1f;
const FUNCTION_SHIFT: i32 = 10;
const FUNCTION: i32 = 0x7;
/// Bus 0 is the root, bus 1 the AGP bridge of the 440BX chip set that all hardware versions have.
const FIRST_BUS: i32 = 2;

/// Returns the PCI address that the guest sees for a slot, `0000:03:00.0`; `None` where the slot is unknown or the
/// bridge it is behind.
pub fn pci_address(slot: i32, bridges: &[Bridge]) -> Option<String> {
    if slot <= 0 {
        return None;
    }
    let device = slot & DEVICE;
    let bridge = (slot >> BRIDGE_SHIFT) & BRIDGE;
    if bridge == 0 {
        return Some(format!("0000:00:{device:02x}.0"));
    }
    let function = (slot >> FUNCTION_SHIFT) & FUNCTION;
    let mut bus = FIRST_BUS;
    for known in bridges.iter().filter(|b| b.slot >= 0) {
        if known.number == bridge - 1 {
            return Some(format!("0000:{:02x}:{device:02x}.0", bus.saturating_add(function)));
        }
        // one bus behind a bridge that says nothing
        bus = bus.saturating_add(known.functions.max(1));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(options: &[(&str, &str)]) -> Extra {
        let mut extra = Extra::default();
        for (key, value) in options {
            extra.set(key, Some(value));
        }
        extra
    }

    /// The bridges of a VM as vCenter makes it.
    fn usual() -> Extra {
        extra(&[
            ("pciBridge4.functions", "8"),
            ("pciBridge4.pciSlotNumber", "21"),
            ("pciBridge0.pciSlotNumber", "17"),
            ("pciBridge5.pciSlotNumber", "22"),
            ("pciBridge5.functions", "8"),
            ("pciBridge0.present", "TRUE"),
        ])
    }

    #[test]
    fn slots_become_the_guests_addresses() {
        let bridges = usual().bridges;
        let address = |slot| pci_address(slot, &bridges);
        // pciBridge0 has bus 2, pciBridge4 buses 3–10, pciBridge5 from 11 on
        assert_eq!(address(32).as_deref(), Some("0000:02:00.0"));
        assert_eq!(address(160).as_deref(), Some("0000:03:00.0"));
        assert_eq!(address(160 + 1024).as_deref(), Some("0000:04:00.0"));
        assert_eq!(address(192).as_deref(), Some("0000:0b:00.0"));
        assert_eq!(address(7).as_deref(), Some("0000:00:07.0"));
        assert_eq!((address(0), address(-1), address(256)), (None, None, None));
        assert_eq!(pci_address(160, &[]), None);
    }

    #[test]
    fn one_key_changes_one_thing() {
        let mut extra = extra(&[("ctkEnabled", "TRUE"), ("scsi0:1.CTKenabled", "true"), ("sata0:0.ctkEnabled", "x")]);
        assert_eq!((extra.ctk, extra.ctk_disks.len()), (Some(true), 1));
        assert!(extra.is_tracked("scsi", 0, 1) && !extra.is_tracked("sata", 0, 0));
        extra.set("scsi0:1.ctkEnabled", None);
        extra.set("numa.nodeAffinity", Some("0,1"));
        extra.set("disk.EnableUUID", Some("TRUE"));
        assert_eq!((extra.ctk_disks.len(), extra.numa_nodes.len(), extra.disk_uuid), (0, 2, true));
        // unlike upstream, a value that cannot be read does not stop the others
        extra.set("ctkEnabled", Some("maybe"));
        assert_eq!(extra.ctk, None);
    }
}
