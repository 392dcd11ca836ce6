//! What the formats without compression answer with: pieces of a range and where each lies.

use crate::error::Result;
use crate::extents::{Extents, Kind};
use crate::source::Input;

/// Where a piece of the virtual disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is stored: the parent shows through.
    Unallocated,
    /// Zeros, and the image says so.
    Zero,
    /// Stored at this offset of the file.
    At(u64),
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u64,
    length: u64,
    place: Place,
}

/// Pieces in order; neighbours that lie one after the other are one.
#[derive(Debug, Default)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    /// Appends a piece; pieces come in order and touch each other.
    pub(super) fn push(&mut self, start: u64, length: u64, place: Place) {
        if length == 0 {
            return;
        }
        if let Some(last) = self.0.last_mut() {
            let joins = match (last.place, place) {
                (Place::At(host), Place::At(next)) => host.checked_add(last.length) == Some(next),
                (before, now) => before == now,
            };
            if joins {
                last.length += length;
                return;
            }
        }
        self.0.push(Piece { start, length, place });
    }

    /// Appends the pieces as extents.
    pub(super) fn extents(&self, extents: &mut Extents) {
        for piece in &self.0 {
            let kind = match piece.place {
                Place::Unallocated => Kind::Unallocated,
                Place::Zero => Kind::Zero,
                Place::At(_) => Kind::Data,
            };
            extents.push(piece.start, piece.length, kind);
        }
    }

    /// Fills `buf` with what the pieces hold; they cover it exactly.
    pub(super) fn read(&self, input: &Input, buf: &mut [u8], field: &str) -> Result<()> {
        let mut rest = buf;
        for piece in &self.0 {
            let length = (piece.length as usize).min(rest.len());
            let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            match piece.place {
                Place::Unallocated | Place::Zero => part.fill(0),
                Place::At(host) => input.read(part, host, field)?,
            }
        }
        Ok(())
    }
}
