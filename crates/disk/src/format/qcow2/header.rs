//! The header of a qcow2 image and what is refused because of it.

use crate::error::Result;
use crate::format::Fields;
use crate::inflate::Packing;
use crate::source::Input;

/// The largest L1 table: 32 MiB, QEMU's own limit.
pub(super) const L1_BYTES: u64 = 32 << 20;
/// The longest name of a backing file, by the specification.
const NAME_BYTES: u64 = 1023;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const BACKING_FORMAT: u32 = 0xe279_2aca;

/// What the header of an image says.
#[derive(Debug, Clone)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// A cluster has 2 to this power bytes.
    pub cluster_bits: u32,
    /// Size of the virtual disk.
    pub size: u64,
    /// Name of the backing file, as it is written.
    pub backing: Option<String>,
    /// Format of the backing file.
    pub backing_format: Option<String>,
    /// Whether clusters have subclusters.
    pub extended_l2: bool,
    pub(super) packing: Packing,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
}

impl Header {
    pub(super) fn read(input: &Input) -> Result<Self> {
        let mut bytes = vec![0; 72];
        input.read(&mut bytes, 0, "header")?;
        let version = Fields(&bytes).u32_be(4);
        if !bytes.starts_with(b"QFI\xfb") {
            return Err(input.malformed(0, "magic", "is not that of qcow2"));
        }
        let mut length = 72;
        match version {
            2 => {}
            3 => {
                let mut more = [0; 32];
                input.read(&mut more, 72, "header")?;
                bytes.extend_from_slice(&more);
                length = u64::from(Fields(&bytes).u32_be(100));
                if length < 104 || length % 8 != 0 || length > 4096 {
                    return Err(input.malformed(100, "header_length", format!("{length} is out of range")));
                }
                if length > 104 {
                    bytes.extend(input.read_vec(104, length - 104, 4096, "header")?);
                }
            }
            1 => return Err(input.unsupported("qcow version 1")),
            other => return Err(input.unsupported(format!("qcow2 version {other}"))),
        }
        let fields = Fields(&bytes);
        let features = if version == 3 { fields.u64_be(72) } else { 0 };
        let packing = check_features(input, features, bytes.get(104).copied().unwrap_or(0))?;
        let mut header = Self {
            version,
            cluster_bits: fields.u32_be(20),
            size: fields.u64_be(24),
            backing: None,
            backing_format: None,
            extended_l2: features & EXTENDED_L2 != 0,
            packing,
            l1_offset: fields.u64_be(40),
            l1_entries: u64::from(fields.u32_be(36)),
        };
        header.check(input, fields.u32_be(32))?;
        header.extensions(input, length)?;
        let (at, length) = (fields.u64_be(8), u64::from(fields.u32_be(16)));
        if at != 0 {
            let name = input.read_vec(at, length, NAME_BYTES, "backing_file_name")?;
            header.backing = Some(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(header)
    }

    fn check(&self, input: &Input, encryption: u32) -> Result<()> {
        if encryption != 0 {
            return Err(input.unsupported("encrypted qcow2"));
        }
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(input.malformed(20, "cluster_bits", format!("{} is not within 9 to 21", self.cluster_bits)));
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return Err(input.malformed(20, "cluster_bits", "subclusters need clusters of 16 KiB at least"));
        }
        if self.size > i64::MAX as u64 {
            return Err(input.malformed(24, "size", format!("{} is absurd", self.size)));
        }
        if !self.l1_offset.is_multiple_of(self.cluster_size()) {
            return Err(input.malformed(40, "l1_table_offset", "is not aligned to a cluster"));
        }
        let covered = self.cluster_size() * self.l2_entries();
        let needed = self.size.div_ceil(covered);
        if self.l1_entries < needed {
            return Err(input.malformed(
                36,
                "l1_size",
                format!("{} entries do not cover the disk, which needs {needed}", self.l1_entries),
            ));
        }
        if self.l1_entries * 8 > L1_BYTES {
            return Err(input.malformed(36, "l1_size", format!("{} entries are too many", self.l1_entries)));
        }
        Ok(())
    }

    fn extensions(&mut self, input: &Input, start: u64) -> Result<()> {
        let mut at = start;
        // the extensions lie in the first cluster; each has 8 bytes at least
        while at + 8 <= self.cluster_size().min(input.length()) {
            let head = input.read_vec(at, 8, 8, "header extension")?;
            let (kind, length) = (Fields(&head).u32_be(0), u64::from(Fields(&head).u32_be(4)));
            if kind == 0 {
                break;
            }
            if kind == BACKING_FORMAT {
                let name = input.read_vec(at + 8, length, NAME_BYTES, "backing format")?;
                self.backing_format = Some(String::from_utf8_lossy(&name).into_owned());
            }
            at = at.saturating_add(8).saturating_add(length.next_multiple_of(8));
        }
        Ok(())
    }

    /// Returns the bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(super) fn l2_entry_size(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_size() / self.l2_entry_size()
    }

    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = vec![
            ("version", self.version.to_string()),
            ("cluster size", self.cluster_size().to_string()),
            ("compression", if self.packing == Packing::Zstd { "zstd" } else { "deflate" }.into()),
        ];
        if self.extended_l2 {
            details.push(("subclusters", "yes".into()));
        }
        details.extend(self.backing.clone().map(|name| ("backing file", name)));
        details
    }
}

fn check_features(input: &Input, features: u64, compression: u8) -> Result<Packing> {
    if features & EXTERNAL_DATA != 0 {
        return Err(input.unsupported("qcow2 with an external data file"));
    }
    if features & CORRUPT != 0 {
        return Err(input.malformed(72, "incompatible_features", "the image is marked corrupt; try qemu-img check -r"));
    }
    let unknown = features & !(DIRTY | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return Err(input.unsupported(format!("qcow2 with unknown features {unknown:#x}")));
    }
    match compression {
        0 => Ok(Packing::Deflate),
        1 if features & COMPRESSION != 0 => Ok(Packing::Zstd),
        other => Err(input.unsupported(format!("qcow2 compression type {other}"))),
    }
}
