//! The items of a hardware section, and where disks sit on controllers.

use std::collections::HashMap;

use roxmltree::Node;

use super::parse::{attribute, text_of};
use super::{Attachment, Bus, Disk, OvfError};

/// One `Item` of the hardware section.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    pub id: String,
    pub kind: u32,
    pub subtype: String,
    pub element_name: String,
    pub description: String,
    pub quantity: String,
    pub units: String,
    pub parent: String,
    pub address: String,
    pub address_on_parent: String,
    pub host_resource: String,
    pub connection: String,
    pub cores_per_socket: String,
    pub mac: String,
    pub name: String,
    pub caption: String,
    pub boot_order: Option<u32>,
    pub device: String,
}

/// CIM resource types.
pub(super) mod resource {
    pub const PROCESSOR: u32 = 3;
    pub const MEMORY: u32 = 4;
    pub const IDE_CONTROLLER: u32 = 5;
    pub const SCSI_CONTROLLER: u32 = 6;
    pub const ETHERNET: u32 = 10;
    pub const DISK: u32 = 17;
    pub const STORAGE_CONTROLLER: u32 = 20;
    pub const LOGICAL_DISK: u32 = 31;
}

impl Item {
    fn read(node: Node<'_, '_>) -> Self {
        let text = |name| text_of(node, name);
        let either = |first: String, second: &'static str| {
            if first.is_empty() { text(second) } else { first }
        };
        Self {
            id: either(text("InstanceID"), "InstanceId"),
            kind: text("ResourceType").parse().unwrap_or(0),
            subtype: text("ResourceSubType"),
            element_name: text("ElementName"),
            description: text("Description"),
            quantity: text("VirtualQuantity"),
            units: text("AllocationUnits"),
            parent: text("Parent"),
            address: text("Address"),
            address_on_parent: text("AddressOnParent"),
            host_resource: text("HostResource"),
            connection: text("Connection"),
            cores_per_socket: either(text("CoresPerSocket"), "cpu_per_socket"),
            mac: text("MACAddress"),
            name: text("Name"),
            caption: text("Caption"),
            boot_order: text("BootOrder").parse().ok().filter(|order| *order > 0),
            device: text("Device"),
        }
    }

    /// The kind of device, without the number that tells one from the next.
    pub fn device_kind(&self) -> String {
        let name = if self.element_name.is_empty() { &self.caption } else { &self.element_name };
        let stripped = name.trim_end_matches(|c: char| c.is_numeric() || c.is_whitespace());
        match (stripped, self.description.as_str()) {
            ("", "") => "Unknown".to_owned(),
            ("", description) => description.to_owned(),
            (kind, _) => kind.to_owned(),
        }
    }
}

/// The items that hold for the chosen configuration: those without one, and those
/// of it, which replace items of the same id. Bounds of ranges are no devices.
pub(super) fn items(section: Node<'_, '_>, configuration: Option<&str>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for node in section.children().filter(|n| n.is_element()) {
        if !matches!(node.tag_name().name(), "Item" | "StorageItem" | "EthernetPortItem") {
            continue;
        }
        if attribute(node, "bound").is_some_and(|b| b == "min" || b == "max") {
            continue;
        }
        let chosen = match attribute(node, "configuration") {
            Some(wanted) => configuration.is_some_and(|c| wanted.split_whitespace().any(|w| w == c)),
            None => true,
        };
        if !chosen {
            continue;
        }
        let item = Item::read(node);
        match items.iter_mut().find(|old| !item.id.is_empty() && old.id == item.id) {
            Some(old) => *old = item,
            None => items.push(item),
        }
    }
    items
}

/// The disks of the items, in the order in which the firmware sees them.
pub(super) fn attachments(items: &[Item], disks: &[Disk], system: &str) -> Result<Vec<Attachment>, OvfError> {
    let mut controllers: HashMap<&str, (u32, Bus)> = HashMap::new();
    let mut count = 0;
    for item in items {
        if let Some(bus) = controller_bus(item) {
            controllers.insert(&item.id, (count, bus));
            count += 1;
        }
    }
    let mut found = Vec::new();
    for item in items.iter().filter(|i| matches!(i.kind, resource::DISK | resource::LOGICAL_DISK)) {
        if item.host_resource.is_empty() {
            continue;
        }
        let disk = resolve(&item.host_resource, disks).ok_or_else(|| OvfError::Dangling {
            from: format!("a disk of {system}"),
            to: item.host_resource.clone(),
        })?;
        let controller = controllers.get(item.parent.as_str()).copied();
        let attachment = Attachment {
            disk: disk.id.clone(),
            bus: controller.map(|(_, bus)| bus).or(disk.bus),
            controller: controller.map(|(index, _)| index),
            position: item.address_on_parent.parse().ok(),
        };
        let boot = item.boot_order.unwrap_or(if disk.bootable { u32::MAX - 1 } else { u32::MAX });
        found.push((boot, attachment));
    }
    // stable: what has no place keeps the descriptor's order
    found.sort_by_key(|(boot, a)| (*boot, a.controller.unwrap_or(u32::MAX), a.position.unwrap_or(u32::MAX)));
    Ok(found.into_iter().map(|(_, attachment)| attachment).collect())
}

fn controller_bus(item: &Item) -> Option<Bus> {
    let subtype = item.subtype.to_ascii_lowercase();
    match item.kind {
        resource::IDE_CONTROLLER => Some(Bus::Ide),
        resource::SCSI_CONTROLLER => Some(Bus::Scsi),
        resource::STORAGE_CONTROLLER if subtype.contains("nvme") => Some(Bus::Nvme),
        resource::STORAGE_CONTROLLER if subtype.contains("virtio") => Some(Bus::Virtio),
        resource::STORAGE_CONTROLLER => Some(Bus::Sata),
        _ => None,
    }
}

/// `ovf:/disk/vmdisk1`, `/disk/vmdisk1`, `ovf:/file/file1`, or oVirt's `group/image`.
fn resolve<'a>(host_resource: &str, disks: &'a [Disk]) -> Option<&'a Disk> {
    let path = host_resource.strip_prefix("ovf:").unwrap_or(host_resource);
    let by_id = |id: &str| disks.iter().find(|d| d.id == id);
    let by_file = |file: &str| disks.iter().find(|d| d.file.as_deref() == Some(file));
    if let Some(id) = path.trim_start_matches('/').strip_prefix("disk/") {
        return by_id(id);
    }
    if let Some(file) = path.trim_start_matches('/').strip_prefix("file/") {
        return by_file(file);
    }
    let last = path.rsplit('/').next().unwrap_or(path);
    by_file(path).or_else(|| by_file(last)).or_else(|| by_id(path)).or_else(|| by_id(last))
}

/// A MAC address with colons, or nothing when it is none.
pub(super) fn mac(text: &str) -> String {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    if digits.len() != 12 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return String::new();
    }
    let pairs: Vec<&str> = (0..6).filter_map(|i| digits.get(2 * i..2 * i + 2)).collect();
    pairs.join(":").to_ascii_lowercase()
}
