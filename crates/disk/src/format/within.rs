//! A disk of which only some ranges were ever written, as its source tells.

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, Kind};
use crate::image::{Format, Image};

/// An image without what lies outside of some ranges.
pub(crate) struct Within {
    image: Box<dyn Image>,
    ranges: Vec<Range<u64>>,
}

impl Within {
    /// Returns `image` within `ranges`, which are in order and apart.
    pub(crate) fn new(image: Box<dyn Image>, ranges: Vec<Range<u64>>) -> Self {
        Self { image, ranges }
    }

    /// Calls `visit` for each part of a range, with whether it was written.
    fn each(&self, range: Range<u64>, mut visit: impl FnMut(Range<u64>, bool) -> Result<()>) -> Result<()> {
        let first = self.ranges.partition_point(|written| written.end <= range.start);
        let mut at = range.start;
        for written in self.ranges.iter().skip(first).take_while(|written| written.start < range.end) {
            let (start, end) = (written.start.max(at), written.end.min(range.end));
            if start > at {
                visit(at..start, false)?;
            }
            if end > start {
                visit(start..end, true)?;
            }
            at = end.max(at);
        }
        if at < range.end {
            visit(at..range.end, false)?;
        }
        Ok(())
    }
}

impl Image for Within {
    fn format(&self) -> Format {
        self.image.format()
    }

    fn size(&self) -> u64 {
        self.image.size()
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        self.each(range, |part, written| {
            if written {
                return self.image.extents(part, extents);
            }
            extents.push(part.start, part.end - part.start, Kind::Unallocated);
            Ok(())
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut rest = buf;
        let end = offset.saturating_add(rest.len() as u64);
        self.each(offset..end, |part, written| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut((part.end - part.start) as usize);
            rest = later;
            if written {
                return self.image.read_at(now, part.start);
            }
            now.fill(0);
            Ok(())
        })
    }

    fn tables(&self) -> Result<Vec<Range<u64>>> {
        self.image.tables()
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        self.image.details()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk of ones.
    struct Ones(u64);

    impl Image for Ones {
        fn format(&self) -> Format {
            Format::Raw
        }

        fn size(&self) -> u64 {
            self.0
        }

        fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
            extents.push(range.start, range.end - range.start, Kind::Data);
            Ok(())
        }

        fn read_at(&self, buf: &mut [u8], _: u64) -> Result<()> {
            buf.fill(1);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_was_never_written_reads_as_zeros(
            gaps in proptest::collection::vec((1u64..40, 1u64..40), 0..12),
            start in 0u64..500,
            length in 1u64..300,
        ) {
            let mut at = 0;
            let ranges: Vec<_> = gaps.iter().map(|(gap, length)| { let start = at + gap; at = start + length; start..at }).collect();
            let image = Within::new(Box::new(Ones(2000)), ranges.clone());
            let mut bytes = vec![7; length as usize];
            image.read_at(&mut bytes, start).expect("reads");
            let mut extents = Extents::default();
            image.extents(start..start + length, &mut extents).expect("looks");
            for (at, byte) in (start..).zip(&bytes) {
                let written = ranges.iter().any(|range| range.contains(&at));
                prop_assert_eq!(*byte, u8::from(written));
                let extent = extents.as_slice().iter().find(|extent| extent.range().contains(&at));
                prop_assert_eq!(extent.map(|extent| extent.kind == Kind::Data), Some(written));
            }
        }
    }
}
