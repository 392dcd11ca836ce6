//! qcow2, versions 2 and 3: compressed clusters (deflate, zstd), zero clusters, subclusters.
//!
//! ```text
//! header ─► L1 table (in memory) ─► L2 tables (a slice is read for each range) ─► clusters
//!           8 bytes / 512 MiB       8 or 16 bytes / cluster
//! ```
//!
//! Facts: QEMU's specification, `docs/interop/qcow2.rst`
//! (<https://www.qemu.org/docs/master/interop/qcow2.html>).

mod header;
mod read;

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, Kind};
use crate::image::{Format, Image};
use crate::source::Input;

pub use header::Header;

/// A qcow2 image (its active state; internal snapshots are not looked at).
pub struct Qcow2 {
    input: Input,
    header: Header,
    l1: Vec<u64>,
    /// Offsets of the L2 tables, ascending: nothing else may lie there.
    l2: Vec<u64>,
}

/// Bits of an L1 or L2 entry that hold a host offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

/// Where a piece of the virtual disk is, at most one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Unallocated,
    Zero,
    /// Stored at this offset of the file.
    At(u64),
    /// Packed: offset and most bytes of the stream.
    Packed(u64, u64),
}

/// A piece of a range and where it is.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    length: u64,
    place: Place,
}

impl Qcow2 {
    /// Opens an image; whether a backing image belongs under it is in its [`Header`].
    pub fn open(input: Input) -> Result<Self> {
        let header = Header::read(&input)?;
        let bytes = input.read_vec(header.l1_offset, header.l1_entries * 8, header::L1_BYTES, "l1_table")?;
        let l1: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry) & OFFSET).collect();
        let mut places: Vec<(u64, usize)> =
            (0..).zip(&l1).filter(|(_, at)| **at != 0).map(|(i, at)| (*at, i)).collect();
        places.sort_unstable();
        let image = Self { l2: places.iter().map(|(at, _)| *at).collect(), l1, header, input };
        for (number, (at, index)) in places.iter().enumerate() {
            let twice = number.checked_sub(1).and_then(|before| image.l2.get(before)) == Some(at);
            let entry = image.header.l1_offset + *index as u64 * 8;
            if *at % image.header.cluster_size() != 0 {
                return Err(image.input.malformed(
                    entry,
                    "l1 entry",
                    format!("L2 table {at} is not aligned to a cluster"),
                ));
            }
            if let Some(what) = image.overlaps(*at).or(twice.then_some("another L2 table")) {
                return Err(image.input.malformed(
                    entry,
                    "l1 entry",
                    format!("L2 table {index} at {at} overlaps {what}"),
                ));
            }
        }
        Ok(image)
    }

    /// Returns which fixed part a cluster at this offset overlaps.
    fn overlaps(&self, at: u64) -> Option<&'static str> {
        let (l1, cluster) = (self.header.l1_offset, self.header.cluster_size());
        if at < cluster {
            return Some("the header");
        }
        (at < l1 + self.header.l1_entries * 8 && at + cluster > l1).then_some("the L1 table")
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Appends the pieces of a range.
    fn pieces(&self, range: Range<u64>, pieces: &mut Vec<Piece>) -> Result<()> {
        let cluster = self.header.cluster_size();
        let per_table = self.header.l2_entries();
        let last = range.end.div_ceil(cluster);
        let mut index = range.start / cluster;
        while index < last {
            let in_table = index % per_table;
            let count = (per_table - in_table).min(last - index);
            let l2 = self.l1.get((index / per_table) as usize).copied().unwrap_or(0);
            if l2 == 0 {
                let start = range.start.max(index * cluster);
                let end = range.end.min((index + count) * cluster);
                pieces.push(Piece { start, length: end - start, place: Place::Unallocated });
            } else {
                self.table_pieces(&range, index, l2, in_table..in_table + count, pieces)?;
            }
            index += count;
        }
        Ok(())
    }

    fn table_pieces(
        &self,
        range: &Range<u64>,
        first: u64,
        l2: u64,
        entries: Range<u64>,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let cluster = self.header.cluster_size();
        let width = self.header.l2_entry_size();
        let at = l2.saturating_add(entries.start * width);
        let table = self.input.read_vec(at, (entries.end - entries.start) * width, 4 << 20, "l2_table")?;
        for (number, entry) in table.chunks_exact(width as usize).enumerate() {
            let index = first + number as u64;
            let fields = super::Fields(entry);
            let part = crate::extents::unit_part(range, index, cluster);
            let where_ = at + number as u64 * width;
            if self.header.extended_l2 {
                self.subclusters(part, index * cluster, fields.u64_be(0), fields.u64_be(8), where_, pieces)?;
            } else {
                let place = match self.place(fields.u64_be(0), where_)? {
                    Place::At(host) => Place::At(host + (part.start - index * cluster)),
                    other => other,
                };
                pieces.push(Piece { start: part.start, length: part.end - part.start, place });
            }
        }
        Ok(())
    }

    /// Decodes an L2 entry; `at` is its offset for messages.
    fn place(&self, entry: u64, at: u64) -> Result<Place> {
        let cluster = self.header.cluster_size();
        if entry & COMPRESSED != 0 {
            let bits = 62 - (self.header.cluster_bits - 8);
            let host = entry & ((1 << bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            let length = (sectors + 1) * 512 - (host & 511);
            if host >= self.input.length() {
                return Err(self.input.malformed(
                    at,
                    "l2 entry",
                    format!("compressed cluster at {host} is beyond the file"),
                ));
            }
            // the last stream of a file need not fill its sectors
            return Ok(Place::Packed(host, length.min(self.input.length() - host)));
        }
        let host = entry & OFFSET;
        // bit 0 is a reserved bit of version 2
        if entry & 1 != 0 && self.header.version >= 3 && !self.header.extended_l2 {
            return Ok(Place::Zero);
        }
        if host == 0 {
            return Ok(Place::Unallocated);
        }
        if host % cluster != 0 {
            return Err(self.input.malformed(at, "l2 entry", format!("cluster offset {host} is not aligned")));
        }
        let table = self.l2.binary_search(&host).is_ok().then_some("an L2 table");
        if let Some(what) = self.overlaps(host).or(table) {
            return Err(self.input.malformed(at, "l2 entry", format!("cluster at {host} overlaps {what}")));
        }
        Ok(Place::At(host))
    }

    /// Splits a cluster with extended L2 entries: 32 subclusters with two bits each.
    fn subclusters(
        &self,
        part: Range<u64>,
        base: u64,
        entry: u64,
        bitmap: u64,
        at: u64,
        pieces: &mut Vec<Piece>,
    ) -> Result<()> {
        let place = self.place(entry, at)?;
        if let Place::Packed(..) = place {
            pieces.push(Piece { start: part.start, length: part.end - part.start, place });
            return Ok(());
        }
        let size = self.header.cluster_size() / 32;
        for index in 0..32 {
            let sub = crate::extents::unit_part(&part, base / size + index, size);
            if sub.start >= sub.end {
                continue;
            }
            let allocated = bitmap >> index & 1 != 0;
            let zero = bitmap >> (32 + index) & 1 != 0;
            let place = match (place, allocated, zero) {
                (_, true, true) => {
                    return Err(self.input.malformed(at, "l2 entry", "a subcluster is both allocated and zero"));
                }
                (Place::At(host), true, false) => Place::At(host + (sub.start - base)),
                (_, true, false) => {
                    return Err(self.input.malformed(at, "l2 entry", "an allocated subcluster has no cluster"));
                }
                (_, false, true) => Place::Zero,
                (_, false, false) => Place::Unallocated,
            };
            pieces.push(Piece { start: sub.start, length: sub.end - sub.start, place });
        }
        Ok(())
    }
}

impl Image for Qcow2 {
    fn format(&self) -> Format {
        Format::Qcow2
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        let mut pieces = Vec::new();
        self.pieces(range, &mut pieces)?;
        for piece in pieces {
            let kind = match piece.place {
                Place::Unallocated => Kind::Unallocated,
                Place::Zero => Kind::Zero,
                Place::At(_) | Place::Packed(..) => Kind::Data,
            };
            extents.push(piece.start, piece.length, kind);
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.read_pieces(buf, offset)
    }

    fn tables(&self) -> Result<Vec<Range<u64>>> {
        let size = self.header.cluster_size();
        Ok(self.l1.iter().filter(|at| **at != 0).map(|at| *at..at.saturating_add(size)).collect())
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        self.header.details()
    }
}
