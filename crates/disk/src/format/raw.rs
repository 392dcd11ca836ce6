//! Raw images: the bytes as they are; holes of a sparse file are unallocated.

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, Kind};
use crate::image::{Format, Image};
use crate::source::Input;

/// A raw image.
pub struct Raw {
    input: Input,
    size: u64,
}

impl Raw {
    /// Opens a raw image; a file whose size is not a multiple of 512 is rounded up with zeros.
    pub fn open(input: Input) -> Result<Self> {
        let size = input.length().next_multiple_of(512);
        Ok(Self { input, size })
    }
}

impl Image for Raw {
    fn format(&self) -> Format {
        Format::Raw
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        extents_of(&self.input, 0, 0, range, extents)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let stored = self.input.length().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (bytes, rest) = buf.split_at_mut(stored);
        rest.fill(0);
        if bytes.is_empty() { Ok(()) } else { self.input.read(bytes, offset, "data") }
    }
}

/// Appends what a range of the virtual disk holds whose byte `base` is the file's byte `offset`:
/// data where the source stores any; its holes and what lies beyond its end are unallocated.
pub(super) fn extents_of(
    input: &Input,
    offset: u64,
    base: u64,
    range: Range<u64>,
    extents: &mut Extents,
) -> Result<()> {
    let mut at = range.start;
    while at < range.end {
        let from = offset + (at - base);
        let Some(data) = input.next_data(from)?.filter(|data| data.end > from) else {
            break;
        };
        let start = (data.start.max(from) - offset).saturating_add(base).min(range.end);
        let end = (data.end - offset).saturating_add(base).min(range.end);
        extents.push(at, start - at, Kind::Unallocated);
        extents.push(start, end - start, Kind::Data);
        at = end;
    }
    extents.push(at, range.end.saturating_sub(at), Kind::Unallocated);
    Ok(())
}
