//! An image over its backing image: what the upper one does not store shows the lower one.

use std::ops::Range;

use crate::error::Result;
use crate::extents::{Extents, Kind};
use crate::image::{Format, Image};

/// The longest chain that is followed.
pub(crate) const DEPTH: usize = 32;

/// An overlay and what lies under it.
pub struct Chain {
    top: Box<dyn Image>,
    base: Box<dyn Image>,
}

impl Chain {
    /// Lays `top` over `base`.
    pub fn new(top: Box<dyn Image>, base: Box<dyn Image>) -> Self {
        Self { top, base }
    }
}

impl Image for Chain {
    fn format(&self) -> Format {
        self.top.format()
    }

    fn size(&self) -> u64 {
        self.top.size()
    }

    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        let mut upper = Extents::default();
        self.top.extents(range, &mut upper)?;
        for extent in upper.as_slice() {
            if extent.kind != Kind::Unallocated {
                extents.push(extent.start, extent.length, extent.kind);
                continue;
            }
            // the backing image may be shorter: what lies beyond it is zeros
            let shared = extent.end().min(self.base.size()).max(extent.start);
            if shared > extent.start {
                self.base.extents(extent.start..shared, extents)?;
            }
            extents.push(shared, extent.end() - shared, Kind::Unallocated);
        }
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut upper = Extents::default();
        self.top.extents(offset..offset.saturating_add(buf.len() as u64), &mut upper)?;
        for extent in upper.as_slice() {
            let start = (extent.start - offset) as usize;
            let part = buf.get_mut(start..start + extent.length as usize).unwrap_or_default();
            match extent.kind {
                Kind::Data => self.top.read_at(part, extent.start)?,
                Kind::Zero => part.fill(0),
                Kind::Unallocated => {
                    let stored = self.base.size().saturating_sub(extent.start).min(extent.length) as usize;
                    let (below, beyond) = part.split_at_mut(stored);
                    beyond.fill(0);
                    if !below.is_empty() {
                        self.base.read_at(below, extent.start)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn tables(&self) -> Result<Vec<Range<u64>>> {
        self.top.tables()
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let mut details = self.top.details();
        details.push(("backing format", self.base.format().to_string()));
        details.push(("backing size", self.base.size().to_string()));
        details
    }
}
