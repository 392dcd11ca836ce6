//! The metadata of a VHDX: sizes, and where the parent is.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::Fields;
use crate::format::vhd::file_name;
use crate::source::Input;

use super::header::guid;

const TABLE: u64 = 64 << 10;
/// The most items, by the specification.
const ITEMS: u16 = 1023;
/// The largest item, by the specification.
const ITEM: u64 = 1 << 20;

const FILE_PARAMETERS: &str = "caa16737-fa36-4d43-b3b6-33f0aa44e76b";
const DISK_SIZE: &str = "2fa54224-cd1b-4876-b211-5dbed83bf4b8";
const DISK_ID: &str = "beca12ab-b2e6-4523-93ef-c309e000c746";
const LOGICAL_SECTOR: &str = "8141bf1d-a96f-4709-ba47-f233a8faab5f";
const PHYSICAL_SECTOR: &str = "cda348c7-445d-4471-9cc9-e9885251c556";
const PARENT_LOCATOR: &str = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c";
const KNOWN: [&str; 6] = [FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR];
/// The parent is a VHDX.
const LOCATOR_OF_VHDX: &str = "b04aefb7-d19e-4a81-b789-25b8e9445913";

/// What a differencing disk says of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// File name, without the folder where it once was.
    pub name: String,
    /// Identities of the data that the parent may have, lower case and without braces.
    pub ids: Vec<String>,
}

/// What the metadata say.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Bytes of a block.
    pub block: u64,
    /// Whether all blocks stay allocated.
    pub fixed: bool,
    /// Bytes of the virtual disk.
    pub size: u64,
    /// Bytes of a logical sector: 512 or 4096.
    pub sector: u64,
    pub parent: Option<Parent>,
}

impl Metadata {
    pub(super) fn read(input: &Input, (base, length): (u64, u64)) -> Result<Self> {
        let bytes = input.read_vec(base, TABLE.min(length), TABLE, "metadata table")?;
        if !bytes.starts_with(b"metadata") {
            return Err(input.malformed(base, "metadata table", "has no signature \"metadata\""));
        }
        let count = Fields(&bytes).u16_le(10);
        if count > ITEMS {
            return Err(input.malformed(base + 10, "metadata entry count", format!("{count} is more than {ITEMS}")));
        }
        let mut items: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        for (number, entry) in bytes.get(32..).unwrap_or_default().chunks_exact(32).take(count.into()).enumerate() {
            let at = base + 32 + number as u64 * 32;
            let (fields, id) = (Fields(entry), guid(entry));
            let (offset, size, flags) = (u64::from(fields.u32_le(16)), u64::from(fields.u32_le(20)), fields.u32_le(24));
            if !KNOWN.contains(&id.as_str()) {
                // what a user added, or what one may leave out
                if flags & 4 == 0 {
                    continue;
                }
                return Err(input.unsupported(format!("VHDX with the required metadata {id}")));
            }
            if offset + size > length || (size > 0 && offset < TABLE) {
                let reason = format!("{size} bytes at {offset} do not lie behind the table in its region");
                return Err(input.malformed(at + 16, "metadata entry", reason));
            }
            let item = input.read_vec(base + offset, size, ITEM, "metadata item")?;
            if items.insert(id.clone(), (base + offset, item)).is_some() {
                return Err(input.malformed(at, "metadata entry", format!("{id} is there twice")));
            }
        }
        Self::parse(input, base, &items)
    }

    fn parse(input: &Input, base: u64, items: &BTreeMap<String, (u64, Vec<u8>)>) -> Result<Self> {
        let item = |id: &str, name: &str, bytes: usize| {
            let found = items.get(id).filter(|(_, item)| item.len() >= bytes);
            found.ok_or_else(|| input.malformed(base, name, "is missing or too short"))
        };
        let (at, parameters) = item(FILE_PARAMETERS, "file parameters", 8)?;
        let (block, flags) = (u64::from(Fields(parameters).u32_le(0)), Fields(parameters).u32_le(4));
        if !block.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block) {
            return Err(input.malformed(*at, "block size", format!("{block} is no power of two from 1 to 256 MiB")));
        }
        let (at, sector) = item(LOGICAL_SECTOR, "logical sector size", 4)?;
        let sector = match Fields(sector).u32_le(0) {
            size @ (512 | 4096) => u64::from(size),
            other => return Err(input.malformed(*at, "logical sector size", format!("{other} is not 512 or 4096"))),
        };
        let (at, size) = item(DISK_SIZE, "virtual disk size", 8)?;
        let size = Fields(size).u64_le(0);
        if size > crate::open::SIZE || size % sector != 0 {
            return Err(input.malformed(*at, "virtual disk size", format!("{size} is absurd")));
        }
        let parent = match flags & 2 != 0 {
            true => {
                let (at, locator) = item(PARENT_LOCATOR, "parent locator", 20)?;
                Some(parent(input, *at, locator)?)
            }
            false => None,
        };
        Ok(Self { block, fixed: flags & 1 != 0, size, sector, parent })
    }
}

fn parent(input: &Input, at: u64, locator: &[u8]) -> Result<Parent> {
    let fields = Fields(locator);
    if guid(locator) != LOCATOR_OF_VHDX {
        return Err(input.unsupported(format!("VHDX whose parent locator is of type {}", guid(locator))));
    }
    let text = |offset: u32, length: u16| {
        let bytes = locator.get(offset as usize..)?.get(..length.into())?;
        let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
        Some(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>())
    };
    let mut found = BTreeMap::new();
    for number in 0..usize::from(fields.u16_le(18)) {
        let entry = 20 + number * 12;
        let key = text(fields.u32_le(entry), fields.u16_le(entry + 8));
        let value = text(fields.u32_le(entry + 4), fields.u16_le(entry + 10));
        let (Some(key), Some(value)) = (key, value) else {
            return Err(input.malformed(at + entry as u64, "parent locator", "an entry lies beyond it"));
        };
        found.insert(key, value);
    }
    let path = ["relative_path", "absolute_win32_path", "volume_path"].iter().find_map(|key| found.get(*key));
    let name = path.map(|path| file_name(path)).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| input.malformed(at, "parent locator", "names no file"))?;
    let ids = ["parent_linkage", "parent_linkage2"].iter().filter_map(|key| found.get(*key));
    let ids: Vec<String> = ids.map(|id| id.trim_matches(['{', '}', '\0']).to_ascii_lowercase()).collect();
    if ids.is_empty() {
        return Err(input.malformed(at, "parent_linkage", "is missing"));
    }
    Ok(Parent { name, ids })
}
