//! The envelope: references, disks, networks, and the systems in it.

use std::collections::HashMap;

use roxmltree::{Document, Node, ParsingOptions};

use super::units::quantity;
use super::{Bus, Descriptor, Disk, Exporter, FileReference, Network, OvfError, system};

/// More nodes than any appliance has; keeps a hostile file from filling the memory.
const NODES: u32 = 2_000_000;

pub(super) fn descriptor(text: &str) -> Result<Descriptor, OvfError> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)?;
    let envelope = document.root_element();
    if envelope.tag_name().name() != "Envelope" {
        return Err(OvfError::NotAnEnvelope(envelope.tag_name().name().to_owned()));
    }
    let properties = properties(envelope);
    let mut found = Descriptor { exporter: exporter(envelope), ..Descriptor::default() };
    found.files = find(envelope, "References").into_iter().flat_map(|r| children(r, "File")).map(file).collect();
    for section in sections(envelope).filter(|(kind, _)| *kind == "DiskSection").map(|(_, node)| node) {
        for node in children(section, "Disk") {
            found.disks.push(disk(node, found.exporter, &properties)?);
        }
    }
    for section in sections(envelope).filter(|(kind, _)| *kind == "NetworkSection").map(|(_, node)| node) {
        found.networks.extend(children(section, "Network").map(|n| Network {
            name: attribute(n, "name").unwrap_or_default().to_owned(),
            description: text_of(n, "Description"),
        }));
    }
    let configuration = default_configuration(envelope);
    for node in systems(envelope) {
        let system = system::parse(node, &found, configuration)?;
        found.systems.push(system);
    }
    if found.systems.is_empty() {
        return Err(OvfError::NoSystem);
    }
    if let [only] = found.systems.as_mut_slice() {
        system::attach_the_rest(only, &found.disks);
    }
    Ok(found)
}

/// The product by the namespaces that the envelope declares. VMware's is declared
/// by others too, so it counts only when none of the others is there.
fn exporter(envelope: Node<'_, '_>) -> Exporter {
    let mut vmware = false;
    for namespace in envelope.namespaces() {
        match namespace.uri() {
            "http://schemas.citrix.com/ovf/envelope/1" | "http://www.citrix.com/xenclient/ovf/1" => {
                return Exporter::Xen;
            }
            "http://www.virtualbox.org/ovf/machine" => return Exporter::VirtualBox,
            "http://www.ovirt.org/ovf" => return Exporter::OVirt,
            uri if uri.contains("http://www.vmware.com/schema/ovf") => vmware = true,
            _ => {}
        }
    }
    let engine = envelope.descendants().any(|n| {
        n.tag_name().name() == "VirtualSystemType"
            && n.text().is_some_and(|t| t.contains("ENGINE") || t.contains("oVirt"))
    });
    match (vmware, engine) {
        (_, true) => Exporter::OVirt,
        (true, false) => Exporter::VMware,
        (false, false) => Exporter::Unknown,
    }
}

fn file(node: Node<'_, '_>) -> FileReference {
    let number = |name| attribute(node, name).and_then(|v| v.trim().parse().ok());
    FileReference {
        id: attribute(node, "id").unwrap_or_default().to_owned(),
        href: attribute(node, "href").unwrap_or_default().trim().to_owned(),
        size: number("size"),
        compression: attribute(node, "compression")
            .map(|c| c.trim().to_ascii_lowercase())
            .filter(|c| !c.is_empty() && c != "identity"),
        chunk_size: number("chunkSize").filter(|size| *size > 0),
    }
}

fn disk(node: Node<'_, '_>, exporter: Exporter, properties: &HashMap<String, String>) -> Result<Disk, OvfError> {
    let given = |name| attribute(node, name).map(str::trim).filter(|v: &&str| !v.is_empty());
    let id = given("diskId").unwrap_or_default().to_owned();
    let label = format!("disk {id}");
    if let Some(parent) = given("parentRef")
        && parent.chars().any(|c| c != '0' && c != '-')
    {
        return Err(OvfError::Delta(id));
    }
    let (amount, units) = match (given("capacity"), given("size")) {
        (Some(capacity), _) => (capacity, given("capacityAllocationUnits").unwrap_or_default()),
        // oVirt's own descriptors give whole GiB and no units
        (None, Some(size)) => (size, "byte * 2^30"),
        (None, None) => ("0", ""),
    };
    let amount = match amount.strip_prefix("${").and_then(|a| a.strip_suffix('}')) {
        Some(property) => properties.get(property).map(String::as_str).unwrap_or(amount),
        None => amount,
    };
    let capacity: i64 = amount.parse().map_err(|_| OvfError::Number {
        what: "the capacity",
        of: label.clone(),
        value: amount.to_owned(),
    })?;
    if super::units::bytes(units).is_none() {
        return Err(OvfError::Units { of: label, units: units.to_owned() });
    }
    let format = given("format").unwrap_or_default().to_owned();
    Ok(Disk {
        file: given("fileRef").map(str::to_owned),
        capacity,
        units: units.to_owned(),
        capacity_bytes: quantity(capacity, units).filter(|bytes| *bytes > 0),
        image_format: image_format(&format, given("volume-format"), exporter),
        format,
        populated: given("populatedSize").and_then(|v| v.parse().ok()).unwrap_or(0),
        bus: given("disk-interface").and_then(ovirt_bus),
        bootable: given("boot").is_some_and(|b| b.eq_ignore_ascii_case("true")),
        id,
    })
}

fn image_format(uri: &str, volume_format: Option<&str>, exporter: Exporter) -> Option<&'static str> {
    let uri = uri.to_ascii_lowercase();
    match volume_format.map(str::to_ascii_uppercase).as_deref() {
        Some("COW") => return Some("qcow2"),
        Some("RAW") => return Some("raw"),
        _ => {}
    }
    // oVirt writes VMDK's URI whatever the format is
    [("qcow", "qcow2"), ("vhdx", "vhdx"), ("vhd", "vhd"), ("vmdk", "vmdk"), ("raw", "raw")]
        .into_iter()
        .find(|(part, _)| uri.contains(part))
        .map(|(_, format)| format)
        .filter(|format| !(exporter == Exporter::OVirt && *format == "vmdk"))
}

fn ovirt_bus(interface: &str) -> Option<Bus> {
    match interface.to_ascii_lowercase().as_str() {
        "virtio" => Some(Bus::Virtio),
        "virtio_scsi" | "spapr_vscsi" => Some(Bus::Scsi),
        "ide" => Some(Bus::Ide),
        "sata" => Some(Bus::Sata),
        _ => None,
    }
}

/// The systems, in whatever collections they are.
fn systems<'a, 'i>(envelope: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    envelope.descendants().filter(|node| kind_of(*node) == "VirtualSystem")
}

/// The configuration that an unattended import takes.
fn default_configuration<'a>(envelope: Node<'a, '_>) -> Option<&'a str> {
    let section = sections(envelope).find(|(kind, _)| *kind == "DeploymentOptionSection")?.1;
    let chosen = children(section, "Configuration")
        .find(|c| attribute(*c, "default").is_some_and(|d| d == "true" || d == "1"))
        .or_else(|| children(section, "Configuration").next())?;
    attribute(chosen, "id")
}

/// The properties of the product sections, by key, with their default values.
fn properties(envelope: Node<'_, '_>) -> HashMap<String, String> {
    let properties = envelope.descendants().filter(|n| n.tag_name().name() == "Property");
    properties.filter_map(|n| Some((attribute(n, "key")?.to_owned(), attribute(n, "value")?.to_owned()))).collect()
}

/// What an element is: its name, or for the older `Section` and `Content` elements their type.
pub(super) fn kind_of<'a>(node: Node<'a, '_>) -> &'a str {
    match node.tag_name().name() {
        name @ ("Section" | "Content") => {
            attribute(node, "type").map_or(name, |t| t.rsplit(':').next().unwrap_or(t).trim_end_matches("_Type"))
        }
        name => name,
    }
}

/// The sections of an element, with what they are.
pub(super) fn sections<'a, 'i>(parent: Node<'a, 'i>) -> impl Iterator<Item = (&'a str, Node<'a, 'i>)> {
    parent.children().filter(Node::is_element).map(|node| (kind_of(node), node))
}

/// The children with a local name.
pub(super) fn children<'a, 'i>(parent: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    parent.children().filter(move |n| n.is_element() && n.tag_name().name() == name)
}

fn find<'a, 'i>(parent: Node<'a, 'i>, name: &'static str) -> Option<Node<'a, 'i>> {
    children(parent, name).next()
}

/// An attribute by its local name, whatever its namespace.
pub(super) fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes().find(|a| a.name() == name).map(|a| a.value())
}

/// The trimmed text of a child; empty when there is none.
pub(super) fn text_of(parent: Node<'_, '_>, name: &'static str) -> String {
    find(parent, name).and_then(|n| n.text()).unwrap_or_default().trim().to_owned()
}
