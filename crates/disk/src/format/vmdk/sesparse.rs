//! A seSparse extent: ESX's delta disks on VMFS 6 and those larger than 2 TiB.
//!
//! ```text
//! 0  constant header │ volatile header │ journal │ directory ─► tables of 4,096 entries ─► grains of 4 KiB
//!    magic cafebabe    magic cafecafe              u64 each        u64 each
//! table entry  top 4 bits: 0 unallocated, 1 unmapped, 2 zeros, 3 grain (number in two rotated parts)
//! ```
//!
//! VMware publishes no description. The layout is the one that QEMU's reader documents in the
//! comments of `block/vmdk.c`; images that it reads are the tests' oracle. A journal that has to be
//! replayed is refused.

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, unit_part};
use crate::format::Fields;
use crate::format::pieces::{Pieces, Place};
use crate::source::Input;

const MAGIC: u64 = 0xcafe_babe;
const VOLATILE: u64 = 0xcafe_cafe;
const VERSION: u64 = 0x2_0000_0001;
const SECTOR: u64 = 512;
/// Entries of a table: 64 sectors of 8 bytes each.
const PER_TABLE: u64 = 64 * SECTOR / 8;
const GRAIN: u64 = 8 * SECTOR;
/// The largest directory: 64 TiB need 32 MiB.
const DIRECTORY_BYTES: u64 = 32 << 20;

/// A seSparse extent.
pub struct SeSparse {
    input: Input,
    size: u64,
    directory: Vec<u64>,
    tables: u64,
    grains: u64,
}

/// Returns whether the bytes begin as a seSparse extent.
pub(super) fn is(input: &Input) -> Result<bool> {
    let head = input.read_vec(0, 8.min(input.length()), 8, "magic")?;
    Ok(Fields(&head).u64_le(0) == MAGIC)
}

impl SeSparse {
    /// Opens an extent.
    pub fn open(input: Input) -> Result<Self> {
        let mut bytes = [0; SECTOR as usize];
        input.read(&mut bytes, 0, "constant header")?;
        let fields = Fields(&bytes);
        if fields.u64_le(0) != MAGIC || fields.u64_le(8) != VERSION {
            return Err(input.unsupported(format!("seSparse extent version {:#x}", fields.u64_le(8))));
        }
        for (at, wanted, field) in
            [(24, GRAIN, "grain size"), (32, PER_TABLE * 8, "grain table size"), (40, 0, "flags")]
        {
            let found = fields.u64_le(at).saturating_mul(SECTOR);
            if found != wanted {
                return Err(input.unsupported(format!("seSparse extent with {field} {found}, not {wanted}")));
            }
        }
        let bytes_at = |position: usize, field: &str| {
            let value = fields.u64_le(position);
            let bytes = value.checked_mul(SECTOR).filter(|bytes| *bytes <= i64::MAX as u64);
            bytes.ok_or_else(|| input.malformed(position as u64, field, format!("{value} sectors are absurd")))
        };
        let size = bytes_at(16, "capacity")?;
        let volatile = bytes_at(80, "volatile header offset")?;
        let (directory, length) = (bytes_at(128, "grain directory offset")?, bytes_at(136, "grain directory size")?);
        let (tables, grains) = (bytes_at(144, "grain tables offset")?, bytes_at(192, "grains offset")?);
        let mut header = [0; SECTOR as usize];
        input.read(&mut header, volatile, "volatile header")?;
        let header = Fields(&header);
        if header.u64_le(0) != VOLATILE {
            return Err(input.malformed(volatile, "volatile header", "has another magic"));
        }
        if header.u64_le(24) & 0xff != 0 {
            return Err(input.unsupported("seSparse extent whose journal was not replayed: open it on its host once"));
        }
        let entries = size.div_ceil(GRAIN * PER_TABLE);
        if entries * 8 > length {
            let reason = format!("{length} bytes do not cover the disk, which needs {}", entries * 8);
            return Err(input.malformed(136, "grain directory size", reason));
        }
        let bytes = input.read_vec(directory, entries * 8, DIRECTORY_BYTES, "grain directory")?;
        let directory = bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry)).collect();
        Ok(Self { input, size, directory, tables, grains })
    }

    /// Returns the bytes of the virtual disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn pieces(&self, range: Range<u64>) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let (mut index, last) = (range.start / GRAIN, range.end.div_ceil(GRAIN));
        while index < last {
            let in_table = index % PER_TABLE;
            let count = (PER_TABLE - in_table).min(last - index);
            let entry = self.directory.get((index / PER_TABLE) as usize).copied().unwrap_or(0);
            match entry >> 32 {
                0 if entry == 0 => {
                    let (start, end) = (range.start.max(index * GRAIN), range.end.min((index + count) * GRAIN));
                    pieces.push(start, end - start, Place::Unallocated);
                }
                0x1000_0000 => {
                    let table = self.tables + (entry & 0xffff_ffff) * PER_TABLE * 8;
                    let at = table.saturating_add(in_table * 8);
                    let bytes = self.input.read_vec(at, count * 8, PER_TABLE * 8, "grain table")?;
                    for (number, entry) in (0u64..).zip(bytes.as_chunks::<8>().0) {
                        let part = unit_part(&range, index + number, GRAIN);
                        let place = match self.place(u64::from_le_bytes(*entry), at + number * 8)? {
                            Place::At(host) => Place::At(host + part.start % GRAIN),
                            other => other,
                        };
                        pieces.push(part.start, part.end - part.start, place);
                    }
                }
                _ => {
                    let reason = format!("entry {} is {entry:#x}", index / PER_TABLE);
                    return Err(self.input.malformed(0, "grain directory", reason));
                }
            }
            index += count;
        }
        Ok(pieces)
    }

    fn place(&self, entry: u64, at: u64) -> Result<Place> {
        match entry >> 60 {
            0 if entry == 0 => Ok(Place::Unallocated),
            1 | 2 => Ok(Place::Zero),
            3 => {
                let grain = (entry >> 48 & 0xfff) | (entry & 0xffff_ffff_ffff) << 12;
                let host = grain.checked_mul(GRAIN).and_then(|bytes| bytes.checked_add(self.grains));
                let host = host.filter(|host| *host < self.input.length());
                host.map(Place::At).ok_or_else(|| {
                    self.input.malformed(
                        at,
                        "grain table entry",
                        format!("grain {grain} is beyond the file (truncated?)"),
                    )
                })
            }
            _ => Err(self.input.malformed(at, "grain table entry", format!("{entry:#x} is of no known kind"))),
        }
    }

    /// Appends what a range of the virtual disk holds, of which this extent begins at `base`.
    pub(super) fn extents(&self, base: u64, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        let mut own = Extents::default();
        self.pieces(range.start - base..range.end - base)?.extents(&mut own);
        own.as_slice().iter().for_each(|extent| extents.push(base + extent.start, extent.length, extent.kind));
        Ok(())
    }

    /// Fills `buf` from `offset` of this extent.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.pieces(offset..offset.saturating_add(buf.len() as u64))?.read(&self.input, buf, "grain")
    }
}
