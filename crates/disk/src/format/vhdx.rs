//! VHDX (Hyper-V): fixed, dynamic and differencing.
//!
//! ```text
//! 0       file identifier "vhdxfile"        1 MiB …  log (circular)
//! 64 K    header 1  "head" ┐ the one with            metadata table ─► block size, disk size, parent, …
//! 128 K   header 2         ┘ the higher sequence     block table (BAT): u64 a block, one more a chunk
//! 192 K   region table 1 "regi" ─► BAT, metadata     blocks of 1 to 256 MiB, sector bitmaps of 1 MiB
//! 256 K   region table 2 (copy)
//! ```
//!
//! Numbers are little endian, checksums CRC-32C. Entries of the block table are read for the range
//! at hand. An image that was not closed has a log: its entries are laid over the file in memory
//! ([`log`]), nothing is written; a log that cannot be replayed is refused as "dirty log: …".
//!
//! Facts: Microsoft's open specification \[MS-VHDX\], "Virtual Hard Disk v2 (VHDX) File Format".

mod header;
mod log;
mod metadata;

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, unit_part};
use crate::format::Fields;
use crate::format::pieces::{Pieces, Place};
use crate::image::{Format, Image};
use crate::source::Input;

pub use metadata::Parent;

pub(crate) const MAGIC: &[u8; 8] = b"vhdxfile";
const MIB: u64 = 1 << 20;
/// What lies before: identifier, headers, region tables.
const FRONT: u64 = MIB;

/// A VHDX image.
pub struct Vhdx {
    input: Input,
    metadata: metadata::Metadata,
    /// Offset and bytes of the block table.
    table: (u64, u64),
    /// Payload blocks that share a sector bitmap.
    chunk: u64,
    replayed: u64,
}

/// Returns the identity that a child of this image names, as `{…}` in lower case.
pub(crate) fn identity(input: &Input) -> Result<String> {
    header::read(input).map(|header| header.data_id)
}

impl Vhdx {
    /// Opens an image; whether a parent belongs under it is in [`parent`](Self::parent).
    pub fn open(input: Input) -> Result<Self> {
        let header = header::read(&input)?;
        let (input, replayed) = log::replay(input, &header)?;
        let regions = header::regions(&input)?;
        let metadata = metadata::Metadata::read(&input, regions.metadata)?;
        let chunk = (metadata.sector << 23) / metadata.block;
        let image = Self { metadata, table: regions.table, chunk, replayed, input };
        image.check_table()?;
        Ok(image)
    }

    fn check_table(&self) -> Result<()> {
        let blocks = self.metadata.size.div_ceil(self.metadata.block);
        let last = match self.metadata.parent {
            Some(_) => blocks.div_ceil(self.chunk) * (self.chunk + 1),
            None => blocks + blocks.saturating_sub(1) / self.chunk,
        };
        let (at, length) = self.table;
        if last * 8 > length {
            let reason = format!("{length} bytes do not cover the disk, which needs {}", last * 8);
            return Err(self.input.malformed(at, "block allocation table", reason));
        }
        self.input.check(at, length, "block allocation table")
    }

    /// Returns what is said of the parent; none for a disk that stands alone.
    pub fn parent(&self) -> Option<&Parent> {
        self.metadata.parent.as_ref()
    }

    fn pieces(&self, range: Range<u64>) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let block = self.metadata.block;
        let (mut index, last) = (range.start / block, range.end.div_ceil(block));
        while index < last {
            // the entries of a chunk lie one after the other; then comes that of its sector bitmap
            let count = (self.chunk - index % self.chunk).min(last - index).min(4096);
            let at = self.table.0 + (index + index / self.chunk) * 8;
            let entries = self.input.read_vec(at, count * 8, 4096 * 8, "block allocation table")?;
            for (number, entry) in (0u64..).zip(entries.as_chunks::<8>().0) {
                let part = unit_part(&range, index + number, block);
                self.block_pieces(part, index + number, u64::from_le_bytes(*entry), at + number * 8, &mut pieces)?;
            }
            index += count;
        }
        Ok(pieces)
    }

    /// Appends the pieces of a part of one block; `at` is the offset of its entry for messages.
    fn block_pieces(&self, part: Range<u64>, index: u64, entry: u64, at: u64, pieces: &mut Pieces) -> Result<()> {
        let host = self.host(entry, at, "block allocation table")?;
        let skip = part.start - index * self.metadata.block;
        let place = match (entry & 7, &self.metadata.parent) {
            (0, _) => Place::Unallocated,
            // undefined, zero, unmapped: nothing of the parent shows
            (1..=3, _) => Place::Zero,
            (6, _) => Place::At(host + skip),
            (7, Some(_)) => return self.partial(part, index, host, pieces),
            (state, _) => {
                return Err(self.input.malformed(at, "block allocation table", format!("block state {state}")));
            }
        };
        pieces.push(part.start, part.end - part.start, place);
        Ok(())
    }

    fn host(&self, entry: u64, at: u64, field: &str) -> Result<u64> {
        let host = entry >> 20 << 20;
        if matches!(entry & 7, 6 | 7) {
            let (table, length) = self.table;
            if host < FRONT || (host < table + length && host + MIB > table) {
                return Err(self.input.malformed(at, field, format!("offset {host} overlaps the tables")));
            }
            if host >= self.input.length() {
                return Err(self.input.malformed(at, field, format!("offset {host} is beyond the file (truncated?)")));
            }
        }
        Ok(host)
    }

    /// Appends the pieces of a block that is the parent's where its sector bitmap has no bit.
    fn partial(&self, part: Range<u64>, index: u64, host: u64, pieces: &mut Pieces) -> Result<()> {
        let (sector, block) = (self.metadata.sector, self.metadata.block);
        let at = self.table.0 + (index / self.chunk * (self.chunk + 1) + self.chunk) * 8;
        let entry = self.input.read_vec(at, 8, 8, "sector bitmap entry")?;
        let entry = Fields(&entry).u64_le(0);
        if entry & 7 != 6 {
            let reason = format!("is not present (state {}), a block of its chunk needs it", entry & 7);
            return Err(self.input.malformed(at, "sector bitmap entry", reason));
        }
        let bitmap = self.host(entry, at, "sector bitmap entry")?;
        // sectors are counted from the start of the chunk
        let base = index / self.chunk * self.chunk * block;
        let (first, last) = ((part.start - base) / sector, (part.end - base).div_ceil(sector));
        let bits = self.input.read_vec(bitmap + first / 8, last.div_ceil(8) - first / 8, MIB, "sector bitmap")?;
        for number in first..last {
            let byte = bits.get((number / 8 - first / 8) as usize).copied().unwrap_or(0);
            let (start, end) =
                (part.start.max(base + number * sector), part.end.min(base.saturating_add((number + 1) * sector)));
            let stored = byte >> (number % 8) & 1 != 0;
            let place = if stored { Place::At(host + (start - index * block)) } else { Place::Unallocated };
            pieces.push(start, end - start, place);
        }
        Ok(())
    }
}

impl Image for Vhdx {
    fn format(&self) -> Format {
        Format::Vhdx
    }

    fn size(&self) -> u64 {
        self.metadata.size
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        self.pieces(range)?.extents(extents);
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.pieces(offset..offset.saturating_add(buf.len() as u64))?.read(&self.input, buf, "block")
    }

    fn tables(&self) -> Result<Vec<Range<u64>>> {
        let (at, length) = self.table;
        Ok(vec![at..at + length])
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let kind = match (&self.metadata.parent, self.metadata.fixed) {
            (Some(_), _) => "differencing",
            (None, true) => "fixed",
            (None, false) => "dynamic",
        };
        let mut details = vec![
            ("disk type", kind.to_owned()),
            ("block size", self.metadata.block.to_string()),
            ("sector size", self.metadata.sector.to_string()),
        ];
        if self.replayed > 0 {
            details.push(("log", format!("{} entries replayed in memory", self.replayed)));
        }
        details.extend(self.metadata.parent.clone().map(|parent| ("parent", parent.name)));
        details
    }
}
