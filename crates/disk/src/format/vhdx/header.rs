//! Headers and region tables of a VHDX, and its checksum.

use crate::error::Result;
use crate::format::Fields;
use crate::source::Input;

use super::MAGIC;

const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGIONS: [u64; 2] = [192 << 10, 256 << 10];
const HEADER: u64 = 4096;
const REGION: u64 = 64 << 10;
/// The most entries of a region table, by the specification.
const ENTRIES: u32 = 2047;

const TABLE: &str = "2dc27766-f623-4200-9d64-115e9bfd4a08";
const METADATA: &str = "8b7ca206-4790-4b9a-b8fe-575f050f886e";

/// The current header.
#[derive(Debug, Clone)]
pub(super) struct Header {
    /// Changes whenever the disk's bytes do; a child names it.
    pub data_id: String,
    /// Identity of the log's entries; none when the file was closed.
    pub log_id: Option<[u8; 16]>,
    /// Offset and length of the log.
    pub log: (u64, u64),
}

/// Offset and length of the regions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Regions {
    pub table: (u64, u64),
    pub metadata: (u64, u64),
}

/// CRC-32C (Castagnoli) of the parts, one after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(u32::MAX, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// Returns the checksum of a structure whose own is at offset 4.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32c(&[bytes.get(..4).unwrap_or_default(), &[0; 4], bytes.get(8..).unwrap_or_default()])
}

/// Formats a GUID as Windows writes it, without braces.
pub(super) fn guid(bytes: &[u8]) -> String {
    let fields = Fields(bytes);
    let tail: String = bytes.get(8..16).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
    let (head, rest) = tail.split_at_checked(4).unwrap_or_default();
    format!("{:08x}-{:04x}-{:04x}-{head}-{rest}", fields.u32_le(0), fields.u16_le(4), fields.u16_le(6))
}

/// Reads the valid header with the higher sequence number.
pub(super) fn read(input: &Input) -> Result<Header> {
    let mut magic = [0; 8];
    input.read(&mut magic, 0, "file identifier")?;
    if &magic != MAGIC {
        return Err(input.malformed(0, "file identifier", "is not that of a VHDX"));
    }
    let mut found: Option<(u64, Vec<u8>, u64)> = None;
    for at in HEADERS {
        let bytes = input.read_vec(at, HEADER, HEADER, "header")?;
        let fields = Fields(&bytes);
        let sequence = fields.u64_le(8);
        let valid = bytes.starts_with(b"head") && fields.u32_le(4) == checksum(&bytes);
        if valid && found.as_ref().is_none_or(|(other, ..)| sequence > *other) {
            found = Some((sequence, bytes, at));
        }
    }
    let Some((_, bytes, at)) = found else {
        return Err(input.malformed(HEADERS[0], "header", "neither copy has a valid signature and checksum"));
    };
    let fields = Fields(&bytes);
    if fields.u16_le(66) != 1 {
        return Err(input.unsupported(format!("VHDX version {}", fields.u16_le(66))));
    }
    let log_id = bytes.get(48..).and_then(|rest| rest.first_chunk::<16>()).copied().filter(|id| *id != [0; 16]);
    let log = (fields.u64_le(72), u64::from(fields.u32_le(68)));
    if log_id.is_some() {
        if fields.u16_le(64) != 0 {
            return Err(input.unsupported(format!("dirty log: log version {} is not known", fields.u16_le(64))));
        }
        input.check(log.0, log.1, "log").map_err(|_| {
            input.malformed(at + 72, "log offset", format!("{} bytes at {} do not lie in the file", log.1, log.0))
        })?;
    }
    Ok(Header { data_id: guid(bytes.get(32..48).unwrap_or_default()), log_id, log })
}

/// Reads the first valid region table.
pub(super) fn regions(input: &Input) -> Result<Regions> {
    for at in REGIONS {
        let bytes = input.read_vec(at, REGION, REGION, "region table")?;
        if bytes.starts_with(b"regi") && Fields(&bytes).u32_le(4) == checksum(&bytes) {
            return parse_regions(input, &bytes, at);
        }
    }
    Err(input.malformed(REGIONS[0], "region table", "neither copy has a valid signature and checksum"))
}

fn parse_regions(input: &Input, bytes: &[u8], at: u64) -> Result<Regions> {
    let count = Fields(bytes).u32_le(8);
    if count > ENTRIES {
        return Err(input.malformed(at + 8, "region table entry count", format!("{count} is more than {ENTRIES}")));
    }
    let (mut table, mut metadata) = (None, None);
    let mut used: Vec<(u64, u64)> = vec![(0, super::FRONT)];
    for (number, entry) in bytes.get(16..).unwrap_or_default().chunks_exact(32).take(count as usize).enumerate() {
        let at = at + 16 + number as u64 * 32;
        let fields = Fields(entry);
        let place = (fields.u64_le(16), u64::from(fields.u32_le(24)));
        let end = place.0.checked_add(place.1).filter(|_| place.0 % super::MIB == 0 && place.1 > 0);
        let Some(end) = end else {
            return Err(input.malformed(at + 16, "region", format!("{} bytes at {} are absurd", place.1, place.0)));
        };
        if used.iter().any(|(start, stop)| place.0 < *stop && end > *start) {
            return Err(input.malformed(at + 16, "region", format!("{} to {end} overlaps another", place.0)));
        }
        used.push((place.0, end));
        let slot = match guid(entry).as_str() {
            TABLE => &mut table,
            METADATA => &mut metadata,
            other if fields.u32_le(28) & 1 != 0 => {
                return Err(input.unsupported(format!("VHDX with the required region {other}")));
            }
            _ => continue,
        };
        if slot.replace(place).is_some() {
            return Err(input.malformed(at, "region", "is there twice"));
        }
    }
    match (table, metadata) {
        (Some(table), Some(metadata)) => Ok(Regions { table, metadata }),
        _ => Err(input.malformed(at + 16, "region table", "the block table or the metadata is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_identities() {
        // the check value of CRC-32C
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
        let bytes = [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 8];
        assert_eq!(guid(&bytes), TABLE);
    }
}
