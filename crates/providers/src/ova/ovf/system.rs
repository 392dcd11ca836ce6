//! One virtual system: its hardware section and what dialects add to it.

use roxmltree::Node;

use super::hardware::{self, Item, mac, resource};
use super::parse::{attribute, children, sections, text_of};
use super::units::quantity;
use super::{Attachment, Descriptor, Disk, Exporter, Nic, OvfError, System};

pub(super) fn parse(
    node: Node<'_, '_>,
    descriptor: &Descriptor,
    configuration: Option<&str>,
) -> Result<System, OvfError> {
    let mut system = System {
        id: attribute(node, "id").unwrap_or_default().to_owned(),
        name: text_of(node, "Name"),
        ..System::default()
    };
    if system.name.is_empty() {
        system.name.clone_from(&system.id);
    }
    for (kind, section) in sections(node) {
        match kind {
            "OperatingSystemSection" => operating_system(&mut system, section, descriptor.exporter),
            "VirtualHardwareSection" => hardware(&mut system, section, descriptor, configuration)?,
            "Machine" => virtualbox(&mut system, section),
            _ => {}
        }
    }
    if descriptor.exporter == Exporter::OVirt {
        ovirt(&mut system, node);
    }
    Ok(system)
}

/// Disks that no item names belong to the only system there is.
pub(super) fn attach_the_rest(system: &mut System, disks: &[Disk]) {
    for disk in disks {
        if !system.disks.iter().any(|a| a.disk == disk.id) {
            let attachment = Attachment { disk: disk.id.clone(), bus: disk.bus, controller: None, position: None };
            system.disks.push(attachment);
        }
    }
}

fn operating_system(system: &mut System, section: Node<'_, '_>, exporter: Exporter) {
    let given = attribute(section, "osType").unwrap_or_default().to_owned();
    let guest = text_of(section, "OSType");
    system.os_type =
        [given, guest, text_of(section, "Description")].into_iter().find(|t| !t.is_empty()).unwrap_or_default();
    // oVirt keeps the VM's id here when the content's own id says only "out"
    if let (Exporter::OVirt, Some(id)) = (exporter, attribute(section, "id"))
        && uuid::Uuid::parse_str(&system.id).is_err()
        && uuid::Uuid::parse_str(id).is_ok()
    {
        id.clone_into(&mut system.id);
    }
}

fn hardware(
    system: &mut System,
    section: Node<'_, '_>,
    descriptor: &Descriptor,
    configuration: Option<&str>,
) -> Result<(), OvfError> {
    let items = hardware::items(section, configuration);
    for item in &items {
        match item.kind {
            resource::PROCESSOR => processor(system, item)?,
            resource::MEMORY => memory(system, item)?,
            resource::ETHERNET => system.nics.push(nic(item, descriptor.exporter)),
            _ => {
                let tpm = |text: &str| text.to_ascii_lowercase().contains("tpm");
                system.tpm |= tpm(&item.subtype) || tpm(&item.element_name) || item.device.eq_ignore_ascii_case("tpm");
                system.devices.push(item.device_kind());
            }
        }
    }
    system.disks = hardware::attachments(&items, &descriptor.disks, &system.name)?;
    for node in section.children().filter(|n| matches!(n.tag_name().name(), "Config" | "ExtraConfig")) {
        if let (Some(key), Some(value)) = (attribute(node, "key"), attribute(node, "value")) {
            configure(system, key, value);
        }
    }
    for node in children(section, "VirtualSystemOtherConfigurationData") {
        xen(system, &text_of(node, "Value"));
    }
    Ok(())
}

fn number(what: &'static str, system: &System, text: &str) -> Result<i64, OvfError> {
    // "2.0" is what some tools make of 2
    let whole = text.strip_suffix(".0").unwrap_or(text);
    let number = if whole.is_empty() { Some(0) } else { whole.parse().ok() };
    number.ok_or_else(|| OvfError::Number { what, of: system.name.clone(), value: text.to_owned() })
}

fn processor(system: &mut System, item: &Item) -> Result<(), OvfError> {
    // a second item (a range, a reservation) adds nothing
    if system.cpus > 0 && item.quantity.is_empty() {
        return Ok(());
    }
    system.cpus = number("the number of CPUs", system, &item.quantity)?;
    system.cpu_units.clone_from(&item.units);
    if !item.cores_per_socket.is_empty() {
        system.cores_per_socket = item.cores_per_socket.parse().unwrap_or(1);
    }
    Ok(())
}

fn memory(system: &mut System, item: &Item) -> Result<(), OvfError> {
    system.memory = number("the memory", system, &item.quantity)?;
    system.memory_units.clone_from(&item.units);
    // no exporter means bytes when it leaves the units out
    let units = if item.units.is_empty() { "MB" } else { &item.units };
    let unknown = || OvfError::Units { of: format!("the memory of {}", system.name), units: item.units.clone() };
    system.memory_bytes = quantity(system.memory, units).ok_or_else(unknown)?;
    Ok(())
}

fn nic(item: &Item, exporter: Exporter) -> Nic {
    let first = |texts: [&str; 3]| texts.into_iter().find(|t| !t.is_empty()).unwrap_or_default().to_owned();
    let model = match (exporter, item.subtype.as_str()) {
        (Exporter::OVirt, "1") => "rtl8139",
        (Exporter::OVirt, "2") => "e1000",
        (Exporter::OVirt, "3") => "virtio",
        (Exporter::OVirt, "4") => "rtl8139_virtio",
        (Exporter::OVirt, "5") => "pci_passthrough",
        (_, other) => other,
    };
    let mac = [&item.mac, &item.address].into_iter().map(|m| mac(m)).find(|m| !m.is_empty());
    Nic {
        name: match exporter {
            Exporter::OVirt => first([&item.name, &item.element_name, &item.caption]),
            _ => first([&item.element_name, &item.caption, &item.name]),
        },
        mac: mac.unwrap_or_default(),
        network: item.connection.clone(),
        model: model.to_owned(),
    }
}

/// VMware's `vmw:Config` and `vmw:ExtraConfig`.
fn configure(system: &mut System, key: &str, value: &str) {
    let yes = matches!(value.trim().to_ascii_lowercase().as_str(), "true" | "1" | "t" | "yes");
    match key {
        "firmware" => value.trim().to_ascii_lowercase().clone_into(&mut system.firmware),
        // the second is what Workstation and Fusion write
        "bootOptions.efiSecureBootEnabled" | "uefi.secureBoot.enabled" => system.secure_boot = yes,
        "memoryHotAddEnabled" => system.memory_hot_add = yes,
        "cpuHotAddEnabled" => system.cpu_hot_add = yes,
        "cpuHotRemoveEnabled" => system.cpu_hot_remove = yes,
        "vtpm.present" => system.tpm |= yes,
        _ => {}
    }
}

/// The settings of Xen: `key=value` pairs, separated by `;`.
fn xen(system: &mut System, value: &str) {
    for (key, value) in value.split([';', ',']).filter_map(|pair| pair.split_once('=')) {
        let value = value.trim().to_ascii_lowercase();
        match key.trim() {
            "firmware" => system.firmware = if value == "uefi" { "efi".to_owned() } else { value },
            "secureboot" => system.secure_boot = value == "true",
            "vtpm" => system.tpm |= value == "true",
            _ => {}
        }
    }
}

/// `vbox:Machine` holds what the standard items leave out.
fn virtualbox(system: &mut System, machine: Node<'_, '_>) {
    let mut adapters: Vec<(u32, String)> = Vec::new();
    for node in machine.descendants().filter(|n| n.is_element()) {
        match node.tag_name().name() {
            "Firmware" => {
                let efi = attribute(node, "type").is_some_and(|t| t.to_ascii_uppercase().starts_with("EFI"));
                system.firmware = if efi { "efi" } else { "bios" }.to_owned();
            }
            "TrustedPlatformModule" => {
                system.tpm |= attribute(node, "type").is_some_and(|t| !t.eq_ignore_ascii_case("none"));
            }
            "Adapter" if attribute(node, "enabled") == Some("true") => {
                let slot = attribute(node, "slot").and_then(|s| s.parse().ok()).unwrap_or(u32::MAX);
                adapters.push((slot, mac(attribute(node, "MACAddress").unwrap_or_default())));
            }
            _ => {}
        }
    }
    adapters.sort();
    for (nic, (_, address)) in system.nics.iter_mut().zip(adapters) {
        if nic.mac.is_empty() {
            nic.mac = address;
        }
    }
    // a machine that does not name its firmware has a BIOS
    if system.firmware.is_empty() {
        "bios".clone_into(&mut system.firmware);
    }
}

/// What oVirt writes directly below the system.
fn ovirt(system: &mut System, node: Node<'_, '_>) {
    let (firmware, secure_boot) = match text_of(node, "BiosType").as_str() {
        "1" | "2" => ("bios", false),
        "3" => ("efi", false),
        "4" => ("efi", true),
        _ => return,
    };
    firmware.clone_into(&mut system.firmware);
    system.secure_boot = secure_boot;
}
