//! A source as a job uses it: with random access, or as a stream.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::error::Result;
use crate::image::Format;
use crate::open::Disk;
use crate::source::Source;
use crate::stream::Stream;

/// An open source.
#[derive(Clone)]
pub(super) enum Opened {
    Disk(Arc<Disk>),
    Stream(Arc<Stream>),
}

/// A source that a window looks at without holding it open.
#[derive(Debug)]
pub(super) enum Seen {
    Disk(Weak<Disk>),
    Stream(Weak<Stream>),
}

impl Seen {
    pub(super) fn bytes_read(&self) -> u64 {
        match self {
            Self::Disk(disk) => disk.upgrade().map_or(0, |disk| disk.bytes_read()),
            Self::Stream(stream) => stream.upgrade().map_or(0, |stream| stream.bytes_read()),
        }
    }
}

impl Opened {
    pub(super) fn seen(&self) -> Seen {
        match self {
            Self::Disk(disk) => Seen::Disk(Arc::downgrade(disk)),
            Self::Stream(stream) => Seen::Stream(Arc::downgrade(stream)),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Disk(disk) => disk.name(),
            Self::Stream(stream) => stream.name(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Disk(disk) => disk.size(),
            Self::Stream(stream) => stream.size(),
        }
    }

    pub(super) fn format(&self) -> Format {
        match self {
            Self::Disk(disk) => disk.format(),
            Self::Stream(stream) => stream.format(),
        }
    }

    pub(super) fn stamp(&self) -> Result<String> {
        match self {
            Self::Disk(disk) => disk.stamp(),
            Self::Stream(stream) => stream.stamp(),
        }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.seen().bytes_read()
    }

    /// Returns the bytes as they are stored; a stream has none to be read again.
    pub(super) fn stored(&self) -> Option<&Arc<dyn Source>> {
        match self {
            Self::Disk(disk) => Some(disk.stored()),
            Self::Stream(_) => None,
        }
    }

    /// Returns how many bytes of a range are stored, where the tables tell without reading all.
    pub(super) fn stored_bytes(&self, range: Range<u64>) -> Result<Option<u64>> {
        match self {
            Self::Disk(disk) if disk.format() == Format::StreamOptimized && !disk.sequential() => {
                disk.data_bytes(range).map(Some)
            }
            _ => Ok(None),
        }
    }
}
