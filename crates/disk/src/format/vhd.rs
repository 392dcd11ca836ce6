//! VHD (Virtual PC, Hyper-V generation 1, Azure): fixed, dynamic and differencing.
//!
//! ```text
//! fixed     data … │ footer
//! dynamic   footer's copy │ dynamic header │ block table: u32 sector │ blocks: bitmap, data … │ footer
//!           "conectix"      "cxsparse"       of each block              1 bit a sector, from the top
//! ```
//!
//! Numbers are big endian. A sector whose bit is clear was never written: it reads as zeros, or in a
//! differencing disk as the parent's. The size is the footer's `current size`; the geometry beside
//! it is smaller where cylinders do not come out even, and only Virtual PC itself goes by it.
//! The block table is in memory (4 bytes a block of 2 MiB), bitmaps are read for the range at hand.
//!
//! Facts: Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0.

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, unit_part};
use crate::format::Fields;
use crate::format::pieces::{Pieces, Place};
use crate::image::{Format, Image};
use crate::source::Input;

pub(crate) const MAGIC: &[u8; 8] = b"conectix";
const FOOTER: u64 = 512;
const SECTOR: u64 = 512;
const HEADER: u64 = 1024;
/// The largest block table: 64 TiB in blocks of 2 MiB are 128 MiB; VHD itself ends at 2,040 GiB.
const TABLE_BYTES: u64 = 64 << 20;
/// The largest block: everyone writes 2 MiB or 512 KiB.
const BLOCK_BYTES: u64 = 256 << 20;
const UNUSED: u32 = u32::MAX;

/// What a differencing disk says of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// File name, without the folder where it once was.
    pub name: String,
    /// Identity that the parent's footer has to have.
    pub id: [u8; 16],
}

enum Layout {
    Fixed,
    Dynamic { block: u64, bitmap: u64, table: Vec<u32> },
}

/// A VHD image.
pub struct Vhd {
    input: Input,
    size: u64,
    creator: String,
    layout: Layout,
    parent: Option<Parent>,
}

struct Footer {
    header: u64,
    creator: String,
    size: u64,
    kind: u32,
    id: [u8; 16],
}

/// One's complement of the sum of all bytes but the checksum's.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let sum = |part: Option<&[u8]>| part.unwrap_or_default().iter().map(|byte| u32::from(*byte)).sum::<u32>();
    !(sum(bytes.get(..at)) + sum(bytes.get(at + 4..)))
}

fn id(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default()
}

impl Footer {
    fn read(input: &Input, at: u64) -> Result<Self> {
        let mut bytes = [0; FOOTER as usize];
        input.read(&mut bytes, at, "footer")?;
        if !bytes.starts_with(MAGIC) {
            return Err(input.malformed(at, "footer", "has no cookie \"conectix\""));
        }
        let fields = Fields(&bytes);
        let (stored, sum) = (fields.u32_be(64), checksum(&bytes, 64));
        if stored != sum {
            return Err(input.malformed(
                at + 64,
                "footer checksum",
                format!("is {stored:#x}, the bytes give {sum:#x}"),
            ));
        }
        let size = fields.u64_be(48);
        if size > i64::MAX as u64 {
            return Err(input.malformed(at + 48, "current size", format!("{size} is absurd")));
        }
        Ok(Self {
            header: fields.u64_be(16),
            creator: String::from_utf8_lossy(bytes.get(28..32).unwrap_or_default())
                .trim_end_matches(['\0', ' '])
                .into(),
            size,
            kind: fields.u32_be(60),
            id: id(&bytes, 68),
        })
    }

    /// Finds the footer: the copy at the start, else the one at the end (a fixed disk has only this).
    fn find(input: &Input) -> Result<Self> {
        let mut magic = [0; 8];
        input.read(&mut magic, 0, "footer")?;
        let last = input.length().saturating_sub(FOOTER);
        match &magic == MAGIC {
            true => Self::read(input, 0).or_else(|error| Self::read(input, last).map_err(|_| error)),
            false => Self::read(input, last),
        }
    }
}

/// Returns the identity that a child of this image names.
pub(crate) fn identity(input: &Input) -> Result<[u8; 16]> {
    Footer::find(input).map(|footer| footer.id)
}

impl Vhd {
    /// Opens an image; whether a parent belongs under it is in [`parent`](Self::parent).
    pub fn open(input: Input) -> Result<Self> {
        let footer = Footer::find(&input)?;
        let (layout, parent) = match footer.kind {
            2 => {
                if footer.size > input.length().saturating_sub(FOOTER) {
                    let reason = format!("{} bytes do not fit into the file (truncated?)", footer.size);
                    return Err(input.malformed(input.length().saturating_sub(FOOTER) + 48, "current size", reason));
                }
                (Layout::Fixed, None)
            }
            3 | 4 => Self::dynamic(&input, &footer)?,
            other => return Err(input.unsupported(format!("VHD of disk type {other}"))),
        };
        Ok(Self { input, size: footer.size, creator: footer.creator, layout, parent })
    }

    fn dynamic(input: &Input, footer: &Footer) -> Result<(Layout, Option<Parent>)> {
        let at = footer.header;
        let bytes = input.read_vec(at, HEADER, HEADER, "dynamic header")?;
        let fields = Fields(&bytes);
        if !bytes.starts_with(b"cxsparse") {
            return Err(input.malformed(at, "dynamic header", "has no cookie \"cxsparse\""));
        }
        let (stored, sum) = (fields.u32_be(36), checksum(&bytes, 36));
        if stored != sum {
            let reason = format!("is {stored:#x}, the bytes give {sum:#x}");
            return Err(input.malformed(at + 36, "header checksum", reason));
        }
        let block = u64::from(fields.u32_be(32));
        if !block.is_power_of_two() || !(SECTOR..=BLOCK_BYTES).contains(&block) {
            let reason = format!("{block} is no power of two from {SECTOR} to {BLOCK_BYTES}");
            return Err(input.malformed(at + 32, "block size", reason));
        }
        let (entries, needed) = (u64::from(fields.u32_be(28)), footer.size.div_ceil(block));
        if entries < needed {
            let reason = format!("{entries} do not cover the disk, which needs {needed}");
            return Err(input.malformed(at + 28, "max table entries", reason));
        }
        let start = fields.u64_be(16);
        let table = input.read_vec(start, needed * 4, TABLE_BYTES, "block allocation table")?;
        let table: Vec<u32> = table.as_chunks::<4>().0.iter().map(|entry| u32::from_be_bytes(*entry)).collect();
        let bitmap = (block / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
        let tables = [at..at + HEADER, start..start + needed * 4];
        check_blocks(input, &table, bitmap + block, start, &tables)?;
        let parent = (footer.kind == 4)
            .then(|| Parent { name: file_name(&utf16_be(bytes.get(64..576).unwrap_or_default())), id: id(&bytes, 40) });
        if parent.as_ref().is_some_and(|parent| parent.name.is_empty()) {
            return Err(input.malformed(at + 64, "parent unicode name", "is empty in a differencing disk"));
        }
        Ok((Layout::Dynamic { block, bitmap, table }, parent))
    }

    /// Returns what is said of the parent; none for a disk that stands alone.
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    fn pieces(&self, range: Range<u64>) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let Layout::Dynamic { block, bitmap, table } = &self.layout else {
            pieces.push(range.start, range.end - range.start, Place::At(range.start));
            return Ok(pieces);
        };
        let missing = if self.parent.is_some() { Place::Unallocated } else { Place::Zero };
        for index in range.start / block..range.end.div_ceil(*block) {
            let part = unit_part(&range, index, *block);
            match table.get(index as usize).copied().unwrap_or(UNUSED) {
                // nothing of the block: unallocated, so that a map shows it as a hole
                UNUSED => pieces.push(part.start, part.end - part.start, Place::Unallocated),
                sector => {
                    let at = u64::from(sector) * SECTOR;
                    self.block_pieces(part, index * block, at, at + bitmap, missing, &mut pieces)?;
                }
            }
        }
        Ok(pieces)
    }

    /// Appends the pieces of a part of one block, as its bitmap has them.
    fn block_pieces(
        &self,
        part: Range<u64>,
        base: u64,
        bitmap: u64,
        data: u64,
        missing: Place,
        pieces: &mut Pieces,
    ) -> Result<()> {
        let (first, last) = ((part.start - base) / SECTOR, (part.end - base).div_ceil(SECTOR));
        let from = first / 8;
        let bits = self.input.read_vec(bitmap + from, last.div_ceil(8) - from, BLOCK_BYTES, "sector bitmap")?;
        let mut sector = first;
        while sector < last {
            let byte = bits.get((sector / 8 - from) as usize).copied().unwrap_or(0);
            // a byte at once where all its sectors are alike
            let (count, stored) = match byte {
                0xff | 0 => (8 - sector % 8, byte != 0),
                mixed => (1, mixed >> (7 - sector % 8) & 1 != 0),
            };
            let end = (sector + count).min(last);
            let piece = unit_part(&part, 0, u64::MAX);
            let (start, stop) =
                (piece.start.max(base + sector * SECTOR), piece.end.min(base.saturating_add(end * SECTOR)));
            let place = if stored { Place::At(data + (start - base)) } else { missing };
            pieces.push(start, stop - start, place);
            sector = end;
        }
        Ok(())
    }
}

/// Refuses blocks that overlap the tables or each other, or lie beyond the file.
fn check_blocks(input: &Input, table: &[u32], stride: u64, at: u64, tables: &[Range<u64>]) -> Result<()> {
    let mut used: Vec<(u64, usize)> = (0..)
        .zip(table)
        .filter(|(_, sector)| **sector != UNUSED)
        .map(|(index, sector)| (u64::from(*sector) * SECTOR, index))
        .collect();
    used.sort_unstable();
    let entry = |index: usize| at + index as u64 * 4;
    let mut before: Option<(u64, usize)> = None;
    for (start, index) in used {
        let refused = |reason: String| Err(input.malformed(entry(index), "block allocation table", reason));
        if start >= input.length() {
            return refused(format!("block {index} at {start} is beyond the file, which ends at {}", input.length()));
        }
        if tables.iter().any(|table| start < table.end && start.saturating_add(stride) > table.start) {
            return refused(format!("block {index} at {start} overlaps the tables"));
        }
        if let Some((other, number)) = before
            && other + stride > start
        {
            return refused(format!("block {index} at {start} overlaps block {number}"));
        }
        before = Some((start, index));
    }
    Ok(())
}

fn utf16_be(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit)).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Returns the last part of a path of Windows or Unix.
pub(super) fn file_name(path: &str) -> String {
    path.rsplit(['\\', '/']).next().unwrap_or_default().to_owned()
}

impl Image for Vhd {
    fn format(&self) -> Format {
        Format::Vhd
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        match self.layout {
            Layout::Fixed => super::raw::extents_of(&self.input, 0, 0, range, extents),
            Layout::Dynamic { .. } => {
                self.pieces(range)?.extents(extents);
                Ok(())
            }
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.pieces(offset..offset.saturating_add(buf.len() as u64))?.read(&self.input, buf, "block")
    }

    fn tables(&self) -> Result<Vec<Range<u64>>> {
        let Layout::Dynamic { bitmap, table, .. } = &self.layout else {
            return Ok(Vec::new());
        };
        let starts = table.iter().filter(|sector| **sector != UNUSED).map(|sector| u64::from(*sector) * SECTOR);
        Ok(starts.map(|start| start..start + bitmap).collect())
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let kind = match (&self.layout, &self.parent) {
            (Layout::Fixed, _) => "fixed",
            (Layout::Dynamic { .. }, None) => "dynamic",
            (Layout::Dynamic { .. }, Some(_)) => "differencing",
        };
        let mut details = vec![("disk type", kind.to_owned()), ("creator", self.creator.clone())];
        if let Layout::Dynamic { block, .. } = &self.layout {
            details.push(("block size", block.to_string()));
        }
        details.extend(self.parent.clone().map(|parent| ("parent", parent.name)));
        details
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_folders_of_any_system() {
        assert_eq!(file_name(r"C:\disks\base.vhd"), "base.vhd");
        assert_eq!(file_name("../base.vhd"), "base.vhd");
        assert_eq!(utf16_be(b"\0b\0.\0\0\0x"), "b.");
    }
}
