//! A hosted sparse extent, plain or compressed (streamOptimized).
//!
//! ```text
//! sector 0  header (KDMV) │ descriptor │ [grain directory, tables] │ grains … │ [tables, directory, footer]
//!                                                                  │
//!           compressed grain: marker { first sector u64, bytes u32 }, zlib stream, padded to a sector
//! directory ─► table of 512 entries (32 MiB of disk with 64 KiB grains) ─► sector of the grain
//! ```
//!
//! A stream knows its directory only at the end: the header then has the offset
//! `0xffffffffffffffff` and the footer, a second header two sectors before the end, the real one.
//! ESX's older sparse extent (COWD) has another header and the same two levels of tables, with 4,096
//! grains a table.
//!
//! The directory is kept in memory, table entries are read for the range at hand: memory does not
//! grow with what is stored. Each marker is compared with the grain that was looked for.

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, Kind, unit_part};
use crate::format::Fields;
use crate::inflate::{Packing, inflate, with_packed};
use crate::source::Input;

const MAGIC: u32 = 0x564d_444b;
const COWD: &[u8; 4] = b"COWD";
const SECTOR: u64 = 512;
const AT_END: u64 = u64::MAX;
/// The largest grain; 64 KiB is what everyone writes.
const GRAIN_BYTES: u64 = 2 << 20;
/// The largest directory: 64 TiB of disk need 8 MiB.
const DIRECTORY_BYTES: u64 = 64 << 20;
/// The most packed bytes that are read at once.
const BATCH: u64 = 2 << 20;
/// How far from the end a footer is looked for.
const FOOTER_SEARCH: u64 = 64 << 10;

const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// Bytes of a compressed grain's marker.
const MARKER: u64 = 12;

/// A sparse extent.
pub struct Sparse {
    input: Input,
    header: Header,
    directory: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    flags: u32,
    /// Bytes of the virtual disk.
    capacity: u64,
    grain: u64,
    descriptor: (u64, u64),
    per_table: u64,
    directory: u64,
}

impl Header {
    fn parse(input: &Input, bytes: &[u8], at: u64) -> Result<Self> {
        let fields = Fields(bytes);
        let sectors = |position: usize, field: &str| {
            let value = fields.u64_le(position);
            value
                .checked_mul(SECTOR)
                .filter(|bytes| *bytes <= i64::MAX as u64)
                .ok_or_else(|| input.malformed(at + position as u64, field, format!("{value} sectors are absurd")))
        };
        if fields.u32_le(0) != MAGIC {
            return Err(input.malformed(at, "magicNumber", "is not that of a sparse extent"));
        }
        let version = fields.u32_le(4);
        if !(1..=3).contains(&version) {
            return Err(input.unsupported(format!("sparse extent version {version}")));
        }
        let directory = fields.u64_le(56);
        let header = Self {
            flags: fields.u32_le(8),
            capacity: sectors(12, "capacity")?,
            grain: sectors(20, "grainSize")?,
            descriptor: (sectors(28, "descriptorOffset")?, sectors(36, "descriptorSize")?),
            per_table: u64::from(fields.u32_le(44)),
            directory: if directory == AT_END { AT_END } else { sectors(56, "gdOffset")? },
        };
        if !header.grain.is_power_of_two() || header.grain > GRAIN_BYTES {
            return Err(input.malformed(
                at + 20,
                "grainSize",
                format!("{} bytes are not a power of two up to {GRAIN_BYTES}", header.grain),
            ));
        }
        if !(1..=65_536).contains(&header.per_table) {
            return Err(input.malformed(at + 44, "numGTEsPerGT", format!("{} is out of range", header.per_table)));
        }
        let algorithm = fields.u16_le(77);
        if header.flags & COMPRESSED != 0 {
            if algorithm != 1 {
                return Err(input.unsupported(format!("VMDK compression algorithm {algorithm}")));
            }
            if header.flags & MARKERS == 0 {
                return Err(input.unsupported("compressed VMDK without markers"));
            }
        }
        Ok(header)
    }
}

impl Header {
    /// Parses the header of ESX's older sparse extent.
    fn parse_cowd(input: &Input, bytes: &[u8]) -> Result<Self> {
        let fields = Fields(bytes);
        let sectors = |position: usize| u64::from(fields.u32_le(position)) * SECTOR;
        if fields.u32_le(4) != 1 {
            return Err(input.unsupported(format!("COWD extent version {}", fields.u32_le(4))));
        }
        let header = Self {
            flags: 0,
            capacity: sectors(12),
            grain: sectors(16),
            descriptor: (0, 0),
            per_table: 4096,
            directory: sectors(20),
        };
        if !header.grain.is_power_of_two() || header.grain > GRAIN_BYTES {
            let reason = format!("{} bytes are not a power of two up to {GRAIN_BYTES}", header.grain);
            return Err(input.malformed(16, "granularity", reason));
        }
        Ok(header)
    }
}

/// Where a grain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Unallocated,
    Zero,
    At(u64),
}

impl Sparse {
    /// Opens an extent.
    pub fn open(input: Input) -> Result<Self> {
        let mut bytes = [0; SECTOR as usize];
        input.read(&mut bytes, 0, "header")?;
        let mut header = match bytes.starts_with(COWD) {
            true => Header::parse_cowd(&input, &bytes)?,
            false => Header::parse(&input, &bytes, 0)?,
        };
        if header.directory == AT_END {
            let footer = find_footer(&input)?;
            header = Header { descriptor: header.descriptor, ..footer };
        }
        if header.directory == 0 && header.capacity > 0 {
            return Err(input.malformed(56, "gdOffset", "there is no grain directory"));
        }
        let entries = header.capacity.div_ceil(header.grain * header.per_table);
        let bytes = input.read_vec(header.directory, entries * 4, DIRECTORY_BYTES, "grain directory")?;
        let directory: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        check_tables(&input, &header, &directory)?;
        Ok(Self { input, header, directory })
    }

    /// Returns the bytes of the virtual disk.
    pub fn size(&self) -> u64 {
        self.header.capacity
    }

    /// Returns the bytes of a grain.
    pub fn grain(&self) -> u64 {
        self.header.grain
    }

    /// Returns whether grains are compressed.
    pub fn packed(&self) -> bool {
        self.header.flags & COMPRESSED != 0
    }

    /// Returns the embedded descriptor.
    pub fn descriptor(&self) -> Result<Option<Vec<u8>>> {
        match self.header.descriptor {
            (0, _) | (_, 0) => Ok(None),
            (at, length) => self.input.read_vec(at, length, super::descriptor::BYTES, "descriptor").map(Some),
        }
    }

    /// Returns where the grain tables lie.
    pub fn tables(&self) -> Vec<Range<u64>> {
        let length = self.header.per_table * 4;
        let starts = self.directory.iter().filter(|sector| **sector != 0).map(|sector| u64::from(*sector) * SECTOR);
        starts.map(|start| start..start + length).collect()
    }

    /// Looks up the grains of a range: index of the first, and the place of each.
    fn places(&self, range: &Range<u64>) -> Result<(u64, Vec<Place>)> {
        let first = range.start / self.header.grain;
        let last = range.end.div_ceil(self.header.grain);
        let mut places = Vec::with_capacity((last - first) as usize);
        let mut index = first;
        while index < last {
            let in_table = index % self.header.per_table;
            let count = (self.header.per_table - in_table).min(last - index);
            let table = self.directory.get((index / self.header.per_table) as usize).copied().unwrap_or(0);
            if table == 0 {
                places.resize(places.len() + count as usize, Place::Unallocated);
            } else {
                let at = u64::from(table) * SECTOR + in_table * 4;
                let bytes = self.input.read_vec(at, count * 4, 65_536 * 4, "grain table")?;
                places.extend(bytes.as_chunks::<4>().0.iter().map(|entry| self.place(u32::from_le_bytes(*entry))));
            }
            index += count;
        }
        Ok((first, places))
    }

    fn place(&self, entry: u32) -> Place {
        match entry {
            0 => Place::Unallocated,
            1 if self.header.flags & ZERO_GRAINS != 0 => Place::Zero,
            sector => Place::At(u64::from(sector) * SECTOR),
        }
    }

    /// Appends what a range of the virtual disk holds, of which this extent begins at `base`.
    pub(super) fn extents(&self, base: u64, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        let own = range.start - base..range.end - base;
        let (first, places) = self.places(&own)?;
        for (number, place) in places.into_iter().enumerate() {
            let part = unit_part(&own, first + number as u64, self.header.grain);
            let kind = match place {
                Place::Unallocated => Kind::Unallocated,
                Place::Zero => Kind::Zero,
                Place::At(_) => Kind::Data,
            };
            extents.push(base + part.start, part.end - part.start, kind);
        }
        Ok(())
    }

    /// Fills `buf` from `offset` of this extent.
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        let (mut index, places) = self.places(&range)?;
        let mut todo = places.as_slice();
        let mut rest = buf;
        while let Some(first) = todo.first() {
            let count = self.run(todo);
            let (now, later) = todo.split_at(count);
            let last = unit_part(&range, index + count as u64 - 1, self.header.grain);
            let start = unit_part(&range, index, self.header.grain).start;
            let (part, after) = rest.split_at_mut((last.end - start) as usize);
            match *first {
                Place::Unallocated | Place::Zero => part.fill(0),
                Place::At(host) if !self.packed() => {
                    self.input.read(part, host + start % self.header.grain, "grain")?;
                }
                Place::At(_) => self.inflate_run(now, index, part, &range)?,
            }
            index += count as u64;
            (rest, todo) = (after, later);
        }
        Ok(())
    }

    /// Returns how many of the first grains are read together.
    fn run(&self, places: &[Place]) -> usize {
        let Some(first) = places.first() else {
            return 0;
        };
        let mut previous = *first;
        let joined = places.iter().skip(1).take_while(|place| {
            let joins = match (*first, previous, **place) {
                // streams lie one after the other; the distance to the next bounds each one's length
                (Place::At(start), Place::At(before), Place::At(next)) if self.packed() => {
                    next > before && next - before <= self.most_packed() && next - start <= BATCH
                }
                (Place::At(_), Place::At(before), Place::At(next)) => before + self.header.grain == next,
                (Place::At(_), _, _) | (_, _, Place::At(_)) => false,
                _ => true,
            };
            previous = **place;
            joins
        });
        1 + joined.count()
    }

    /// Returns the most bytes that a packed grain takes, its marker and padding included.
    fn most_packed(&self) -> u64 {
        // deflate's stored blocks add 5 bytes each 16 KiB at worst; producers were seen to waste more
        (MARKER + self.header.grain + self.header.grain / 16 + SECTOR).next_multiple_of(SECTOR)
    }

    /// Reads packed grains that lie one after the other, and inflates each.
    fn inflate_run(&self, places: &[Place], first: u64, buf: &mut [u8], range: &Range<u64>) -> Result<()> {
        let hosts: Vec<u64> =
            places.iter().filter_map(|place| if let Place::At(at) = place { Some(*at) } else { None }).collect();
        let (Some(start), Some(last)) = (hosts.first(), hosts.last()) else {
            return Ok(());
        };
        self.input.check(*last, MARKER, "grain marker")?;
        let end = last.saturating_add(self.most_packed()).min(self.input.length());
        with_packed((end - start) as usize, |packed| {
            self.input.read(packed, *start, "compressed grains")?;
            let mut rest = buf;
            for (number, host) in hosts.iter().enumerate() {
                let index = first + number as u64;
                let part = unit_part(range, index, self.header.grain);
                let (out, after) = rest.split_at_mut((part.end - part.start) as usize);
                rest = after;
                let stream = packed.get((host - start) as usize..).unwrap_or_default();
                self.inflate_grain(index, *host, stream, part.start, out)?;
            }
            Ok(())
        })
    }

    fn inflate_grain(&self, index: u64, host: u64, bytes: &[u8], start: u64, out: &mut [u8]) -> Result<()> {
        let lba = index * (self.header.grain / SECTOR);
        let marker = Fields(bytes);
        let (found, length) = (marker.u64_le(0), u64::from(marker.u32_le(8)));
        if found != lba {
            return Err(self.input.malformed(host, "grain marker", format!("is of sector {found}, not of {lba}")));
        }
        let stream = usize::try_from(length)
            .ok()
            .filter(|length| *length > 0)
            .and_then(|length| bytes.get(MARKER as usize..)?.get(..length))
            .ok_or_else(|| self.input.malformed(host + 8, "grain marker", format!("size {length} is out of range")))?;
        let malformed = |reason: String| self.input.malformed(host, format!("grain of sector {lba}"), reason);
        let begin = index * self.header.grain;
        // the last grain of a disk may be cut to what the disk still has
        let stored = self.header.grain.min(self.header.capacity - begin);
        let check = |got: usize| match got as u64 >= stored {
            true => Ok(()),
            false => Err(malformed(format!("inflates to {got} bytes, not {stored}"))),
        };
        if out.len() as u64 == self.header.grain {
            return check(inflate(Packing::Zlib, stream, out).map_err(malformed)?);
        }
        let mut whole = vec![0; self.header.grain as usize];
        check(inflate(Packing::Zlib, stream, &mut whole).map_err(malformed)?)?;
        let skip = (start - begin) as usize;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }
}

/// Refuses grain tables that overlap each other, the header or the directory.
fn check_tables(input: &Input, header: &Header, directory: &[u32]) -> Result<()> {
    let length = header.per_table * 4;
    let own = header.directory..header.directory + directory.len() as u64 * 4;
    let mut used: Vec<(u64, usize)> = (0..)
        .zip(directory)
        .filter(|(_, sector)| **sector != 0)
        .map(|(index, at)| (u64::from(*at) * SECTOR, index))
        .collect();
    used.sort_unstable();
    let mut before: Option<u64> = None;
    for (start, index) in used {
        let refused = |what: &str| {
            Err(input.malformed(
                header.directory + index as u64 * 4,
                "grain directory",
                format!("table {index} at {start} overlaps {what}"),
            ))
        };
        if start < own.end && start + length > own.start {
            return refused("the directory");
        }
        // a table of nothing may serve several ranges; the markers of packed grains show what is not theirs
        let shared = header.flags & COMPRESSED != 0 && before == Some(start);
        if before.is_some_and(|other| other + length > start) && !shared {
            return refused("another table");
        }
        before = Some(start);
    }
    Ok(())
}

/// Finds the footer: two sectors before the end, or a little earlier in a padded file.
fn find_footer(input: &Input) -> Result<Header> {
    let search = input.length().min(FOOTER_SEARCH) / SECTOR * SECTOR;
    let from = (input.length() - search) / SECTOR * SECTOR;
    let bytes = input.read_vec(from, input.length() - from, FOOTER_SEARCH * 2, "footer")?;
    for (number, sector) in bytes.chunks_exact(SECTOR as usize).enumerate().rev() {
        let at = from + number as u64 * SECTOR;
        if at == 0 || Fields(sector).u32_le(0) != MAGIC {
            continue;
        }
        let footer = Header::parse(input, sector, at)?;
        if footer.directory == AT_END {
            return Err(input.malformed(at + 56, "gdOffset", "the footer does not say where the directory is"));
        }
        return Ok(footer);
    }
    Err(input.malformed(input.length(), "footer", "not found: the stream is truncated"))
}
