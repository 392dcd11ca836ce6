//! One appliance: an `.ova` archive or an `.ovf` with its files beside it,
//! opened, checked and told as VMs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use forklift_api::worker::Digest;

use super::archive::{self, ArchiveError, Member};
use super::ids;
use super::manifest::{Manifest, verifies};
use super::ovf::{Attachment, Descriptor, Disk, FileReference, OvfError, System};
use super::wire::{Device, DiskFile, Nic, Vm, VmDisk, VmNetwork};

/// Larger than any descriptor or manifest.
const TEXT_LIMIT: u64 = 64 << 20;

/// Why an appliance cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApplianceError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The archive is broken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// There is no descriptor in the archive.
    #[error("the archive holds no .ovf descriptor")]
    NoDescriptor,
    /// The descriptor cannot be used.
    #[error(transparent)]
    Descriptor(#[from] OvfError),
    /// The descriptor is not the one that was exported.
    #[error("the descriptor does not have the digest that the manifest names")]
    DescriptorDigest,
    /// A disk's file is not there.
    #[error("{file}, a disk of the appliance, is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// A disk's file is shorter than the descriptor says.
    #[error("{file} has {found} bytes, the descriptor says {expected}")]
    Short {
        /// The file.
        file: String,
        /// Its size.
        found: u64,
        /// What the descriptor says.
        expected: u64,
    },
    /// A reference leads out of the appliance.
    #[error("{href:?} is outside the appliance")]
    Outside {
        /// The reference.
        href: String,
    },
    /// A file is split into pieces.
    #[error("{file} is split into pieces, which is not supported: export the appliance in one piece")]
    Chunked {
        /// The file.
        file: String,
    },
    /// A compression that is not known.
    #[error("{file} has the compression {compression:?}; only gzip is known")]
    Compression {
        /// The file.
        file: String,
        /// The compression.
        compression: String,
    },
}

impl ApplianceError {
    /// Whether it is what one sees of a file that is still being written.
    pub fn may_be_incomplete(&self) -> bool {
        match self {
            Self::Archive(ArchiveError::Truncated { .. }) | Self::Missing { .. } | Self::Short { .. } => true,
            Self::Archive(ArchiveError::NotTar(_)) | Self::NoDescriptor => true,
            Self::Descriptor(error) => matches!(error, OvfError::Xml(_)),
            _ => false,
        }
    }
}

/// What an appliance holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The exporter.
    pub exporter: String,
    /// Its VMs. Ids are unique in the appliance; the catalogue sees to the rest.
    pub vms: Vec<Vm>,
    /// What is odd and does no harm.
    pub warnings: Vec<String>,
}

/// Opens an appliance. `path` lies below `root`, and what it refers to must too.
pub fn open(root: &Path, path: &Path) -> Result<Contents, ApplianceError> {
    let relative = relative(root, path);
    let place = if has_extension(path, "ovf") { Place::folder(root, path)? } else { Place::archive(path)? };
    let mut warnings = Vec::new();
    let text = place.descriptor(&mut warnings)?;
    let descriptor = Descriptor::parse(&text)?;
    let mut contents = Contents { exporter: descriptor.exporter.to_string(), warnings, ..Contents::default() };
    for system in &descriptor.systems {
        let vm = vm(&place, &descriptor, system, &relative)?;
        contents.vms.push(vm);
    }
    for i in 1..contents.vms.len() {
        let (before, rest) = contents.vms.split_at_mut(i);
        if let Some(vm) = rest.first_mut().filter(|vm| before.iter().any(|b| b.uuid == vm.uuid)) {
            vm.uuid = ids::vm(&relative, &format!("{}#{i}", vm.uuid));
        }
    }
    Ok(contents)
}

/// Returns a path below the catalogue, with slashes.
pub fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty());
    below
        .map_or_else(|| path.file_name().map(PathBuf::from).unwrap_or_default(), Path::to_path_buf)
        .to_string_lossy()
        .into_owned()
}

/// Whether a file has an extension, in whatever case.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// Where an appliance's files are.
enum Place {
    Archive { path: PathBuf, file: File, modified: i64, members: Vec<Member>, manifest: Manifest },
    Folder { root: PathBuf, descriptor: PathBuf, folder: PathBuf, manifest: Manifest },
}

impl Place {
    fn archive(path: &Path) -> Result<Self, ApplianceError> {
        let unreadable = |source| ApplianceError::Unreadable { file: shown(path), source };
        let file = File::open(path).map_err(unreadable)?;
        let modified = nanoseconds(file.metadata().and_then(|m| m.modified()).map_err(unreadable)?);
        let members = archive::index(&file)?;
        let manifest = match members.iter().find(|m| has_extension(Path::new(&m.name), "mf")) {
            Some(member) => {
                let bytes = archive::read(&file, member, TEXT_LIMIT).map_err(unreadable)?;
                Manifest::parse(&String::from_utf8_lossy(&bytes))
            }
            None => Manifest::default(),
        };
        Ok(Self::Archive { path: path.to_owned(), file, modified, members, manifest })
    }

    fn folder(root: &Path, descriptor: &Path) -> Result<Self, ApplianceError> {
        let folder = descriptor.parent().unwrap_or(root).to_owned();
        let manifest = ["mf", "MF"].iter().find_map(|e| std::fs::read_to_string(descriptor.with_extension(e)).ok());
        Ok(Self::Folder {
            root: root.to_owned(),
            descriptor: descriptor.to_owned(),
            folder,
            manifest: manifest.map(|text| Manifest::parse(&text)).unwrap_or_default(),
        })
    }

    fn manifest(&self) -> &Manifest {
        let (Self::Archive { manifest, .. } | Self::Folder { manifest, .. }) = self;
        manifest
    }

    fn descriptor(&self, warnings: &mut Vec<String>) -> Result<String, ApplianceError> {
        let (name, bytes) = match self {
            Self::Archive { path, file, members, .. } => {
                let mut found = members.iter().filter(|m| has_extension(Path::new(&m.name), "ovf"));
                let member = found.next().ok_or(ApplianceError::NoDescriptor)?;
                if found.next().is_some() {
                    warnings.push(format!("there are several descriptors, {} is used", member.name));
                }
                let bytes = archive::read(file, member, TEXT_LIMIT)
                    .map_err(|source| ApplianceError::Unreadable { file: shown(path), source })?;
                (member.name.clone(), bytes)
            }
            Self::Folder { descriptor, .. } => {
                let unreadable = |source| ApplianceError::Unreadable { file: shown(descriptor), source };
                let mut bytes = Vec::new();
                let file = File::open(descriptor).map_err(unreadable)?;
                file.take(TEXT_LIMIT).read_to_end(&mut bytes).map_err(unreadable)?;
                (shown(descriptor), bytes)
            }
        };
        if self.manifest().digest(&name).is_some_and(|digest| !verifies(&bytes, digest)) {
            return Err(ApplianceError::DescriptorDigest);
        }
        Ok(decode(&bytes))
    }

    /// What upstream calls a disk's file path: the archive, or the folder.
    fn file_path(&self) -> String {
        match self {
            Self::Archive { path, .. } => path.to_string_lossy().into_owned(),
            Self::Folder { folder, .. } => {
                format!("{}/", folder.to_string_lossy().trim_end_matches('/'))
            }
        }
    }

    fn ovf_path(&self) -> String {
        let (Self::Archive { path, .. } | Self::Folder { descriptor: path, .. }) = self;
        path.to_string_lossy().into_owned()
    }

    /// Finds the file of a disk and checks that it can be used.
    fn disk_file(&self, reference: &FileReference, disk: &Disk) -> Result<DiskFile, ApplianceError> {
        let file = reference.href.clone();
        if reference.chunk_size.is_some() {
            return Err(ApplianceError::Chunked { file });
        }
        if let Some(compression) = reference.compression.clone().filter(|c| c != "gzip") {
            return Err(ApplianceError::Compression { file, compression });
        }
        let name = inside(&reference.href)?;
        let decoded = percent_decoded(&name);
        let decoded = inside(&decoded)?;
        let digest = self.manifest().digest(&name).or_else(|| self.manifest().digest(&decoded)).cloned();
        let mut found = match self {
            Self::Archive { path, modified, members, .. } => {
                let member = archive::find(members, &name).or_else(|| archive::find(members, &decoded));
                let member = member.ok_or_else(|| ApplianceError::Missing { file: file.clone() })?;
                DiskFile {
                    path: path.to_string_lossy().into_owned(),
                    member: Some(member.name.clone()),
                    size: member.size,
                    modified: *modified,
                    ..DiskFile::default()
                }
            }
            Self::Folder { root, folder, .. } => {
                let path = [folder.join(&name), folder.join(&decoded)].into_iter().find(|p| p.is_file());
                let path = path.ok_or_else(|| ApplianceError::Missing { file: file.clone() })?;
                let unreadable = |source| ApplianceError::Unreadable { file: file.clone(), source };
                let real = path.canonicalize().map_err(unreadable)?;
                // a link may lead elsewhere in the catalogue, not out of it
                if !real.starts_with(root.canonicalize().map_err(unreadable)?) {
                    return Err(ApplianceError::Outside { href: file });
                }
                let metadata = path.metadata().map_err(unreadable)?;
                DiskFile {
                    path: path.to_string_lossy().into_owned(),
                    size: metadata.len(),
                    modified: nanoseconds(metadata.modified().map_err(unreadable)?),
                    ..DiskFile::default()
                }
            }
        };
        if let Some(expected) = reference.size.filter(|size| *size > found.size) {
            return Err(ApplianceError::Short { file, found: found.size, expected });
        }
        found.format = disk.image_format.map(str::to_owned).or_else(|| format_of(&name));
        found.compression.clone_from(&reference.compression);
        found.digest = digest;
        Ok(found)
    }
}

/// Returns a reference's path when it stays inside the appliance.
fn inside(href: &str) -> Result<String, ApplianceError> {
    let outside = || ApplianceError::Outside { href: href.to_owned() };
    let path = href.strip_prefix("file://").map_or(href, |p| p.trim_start_matches('/'));
    if path.is_empty() || path.starts_with('/') || path.contains(['\\', '\0']) || path.contains("://") {
        return Err(outside());
    }
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(outside());
    }
    Ok(parts.join("/"))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn format_of(name: &str) -> Option<String> {
    let name = name.trim_end_matches(".gz");
    let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
    matches!(extension.as_str(), "vmdk" | "qcow2" | "vhd" | "vhdx" | "raw").then_some(extension)
}

fn vm(place: &Place, descriptor: &Descriptor, system: &System, relative: &str) -> Result<Vm, ApplianceError> {
    let disks = system
        .disks
        .iter()
        .map(|attachment| disk(place, descriptor, attachment, relative))
        .collect::<Result<Vec<_>, _>>()?;
    let mut networks: Vec<VmNetwork> = Vec::new();
    for network in &descriptor.networks {
        // in a collection each VM has its own; a single VM has all, as upstream shows it
        if descriptor.systems.len() == 1 || system.nics.iter().any(|n| n.network == network.name) {
            push_network(&mut networks, &network.name, &network.description);
        }
    }
    for nic in system.nics.iter().filter(|n| !n.network.is_empty()) {
        push_network(&mut networks, &nic.network, "");
    }
    let small = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    let stem = Path::new(relative).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Vm {
        name: if system.name.is_empty() { stem } else { system.name.clone() },
        ovf_path: place.ovf_path(),
        export_source: descriptor.exporter.to_string(),
        os_type: system.os_type.clone(),
        uuid: ids::own_uuid(&system.id).unwrap_or_else(|| ids::vm(relative, &system.id)),
        firmware: system.firmware.clone(),
        secure_boot: system.secure_boot,
        cpu_hot_add_enabled: system.cpu_hot_add,
        cpu_hot_remove_enabled: system.cpu_hot_remove,
        memory_hot_add_enabled: system.memory_hot_add,
        cpu_count: small(system.cpus),
        cores_per_socket: small(system.cores_per_socket),
        memory_mb: small(system.memory),
        memory_units: system.memory_units.clone(),
        cpu_units: system.cpu_units.clone(),
        devices: system.devices.iter().map(|kind| Device { kind: kind.clone() }).collect(),
        nics: system
            .nics
            .iter()
            .map(|n| Nic {
                name: n.name.clone(),
                mac: n.mac.clone(),
                network: n.network.clone(),
                config: Vec::new(),
                model: n.model.clone(),
            })
            .collect(),
        disks,
        networks,
        tpm_enabled: system.tpm,
        memory_bytes: system.memory_bytes,
        ..Vm::default()
    })
}

fn push_network(networks: &mut Vec<VmNetwork>, name: &str, description: &str) {
    if !networks.iter().any(|n| n.name == name) {
        let (name, description) = (name.to_owned(), description.to_owned());
        networks.push(VmNetwork { id: ids::network(&name), name, description });
    }
}

fn disk(
    place: &Place,
    descriptor: &Descriptor,
    attachment: &Attachment,
    relative: &str,
) -> Result<VmDisk, ApplianceError> {
    let dangling = |to: &str| OvfError::Dangling { from: format!("disk {}", attachment.disk), to: to.to_owned() };
    let disk = descriptor.disk(&attachment.disk).ok_or_else(|| dangling(&attachment.disk))?;
    let reference = match &disk.file {
        Some(id) => Some(descriptor.file(id).ok_or_else(|| dangling(id))?),
        None => None,
    };
    let source = reference.map(|r| place.disk_file(r, disk)).transpose()?;
    // an empty disk has no file, so it goes by its own id
    let name = reference.map_or_else(|| disk.id.clone(), |r| r.href.clone());
    Ok(VmDisk {
        id: ids::disk(relative, &name),
        file_path: place.file_path(),
        capacity: disk.capacity,
        capacity_allocation_units: disk.units.clone(),
        disk_id: disk.id.clone(),
        file_ref: disk.file.clone().unwrap_or_default(),
        format: disk.format.clone(),
        populated_size: disk.populated,
        capacity_bytes: disk.capacity_bytes.unwrap_or(0),
        bus: attachment.bus.map(|b| b.name().to_owned()),
        controller: attachment.controller,
        position: attachment.position,
        source,
        name,
    })
}

/// Reads UTF-8 with or without mark, and UTF-16 with one, as Windows tools write it.
fn decode(bytes: &[u8]) -> String {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.as_chunks::<2>().0.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Returns a time in nanoseconds since 1970.
pub fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

/// Returns what an importer compares to know whether a disk is still the same.
pub fn identity(file: &DiskFile) -> String {
    let Digest { algorithm, hex } =
        file.digest.clone().unwrap_or(Digest { algorithm: "none".into(), hex: String::new() });
    let member = file.member.as_deref().unwrap_or_default();
    format!("{}|{member}|{}|{}|{algorithm}:{hex}", file.path, file.size, file.modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stay_inside_the_appliance() {
        for (href, expected) in [
            ("disk.vmdk", Some("disk.vmdk")),
            ("./sub//disk.vmdk", Some("sub/disk.vmdk")),
            ("file:///disk.vmdk", Some("disk.vmdk")),
            ("a..b.vmdk", Some("a..b.vmdk")),
            ("../disk.vmdk", None),
            ("a/../../disk.vmdk", None),
            ("/etc/passwd", None),
            ("..\\disk.vmdk", None),
            ("http://server/disk.vmdk", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(inside(href).ok().as_deref(), expected, "{href:?}");
        }
    }

    #[test]
    fn percent_signs_are_taken_as_exporters_mean_them() {
        assert_eq!(percent_decoded("my%20disk%2e.vmdk"), "my disk..vmdk");
        assert_eq!(percent_decoded("100%.vmdk"), "100%.vmdk");
        assert!(inside(&percent_decoded("%2e%2e/x")).is_err());
    }

    #[test]
    fn descriptors_of_windows_tools_are_decoded() {
        let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain("<a/>".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(decode(&wide), "<a/>");
    }
}
