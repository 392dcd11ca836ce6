//! One chunk on its way through a worker.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::changed::Round;
use crate::chunk_map::Copied;
use crate::digest::{Blake3, CHUNK, update_zeros};
use crate::direct::Aligned;
use crate::error::{Error, Result};
use crate::extents::{Extents, Kind, is_zero};
use crate::patience::watched;

use super::commit::Presence;
use super::{Before, PIECE, Run, Way, target};

/// What a worker uses again and again.
struct Tools {
    memory: Aligned,
    extents: Extents,
    hasher: blake3::Hasher,
    /// A chunk of the source, and one of the target, where they are compared.
    chunk: Option<Aligned>,
    other: Option<Aligned>,
}

impl Run {
    /// Copies chunks until there are none left, one fails or the caller cancels.
    pub(super) fn work(&self, leave: Presence<'_>) {
        let mut tools = Tools {
            memory: Aligned::new(PIECE),
            extents: Extents::default(),
            hasher: blake3::Hasher::new(),
            chunk: None,
            other: None,
        };
        while let Some(index) = self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.out.ledger.stopped() {
                return;
            }
            match self.copy_chunk(*index, &mut tools) {
                Ok((copied, written)) => leave.done(*index, copied, written),
                Err(error) => {
                    leave.fail(error);
                    return;
                }
            }
        }
        leave.finish();
    }

    /// Copies a chunk; returns its mark and how many bytes were reserved for it.
    fn copy_chunk(&self, index: u64, tools: &mut Tools) -> Result<(Copied, u64)> {
        self.out.shared.cancel.check()?;
        let start = index * CHUNK;
        let range = start..self.disk.size().min(start + CHUNK);
        let round = match &self.way {
            Way::Whole => return self.copy_whole(range, tools),
            Way::Compared(before) => return self.copy_compared(index, range, before, tools),
            Way::Changed(round) => round,
        };
        let changed = round.bytes(range.clone());
        if changed == range.end - range.start {
            return self.copy_whole(range, tools);
        }
        self.out.limit.take(changed, &self.out.shared.cancel)?;
        // the chunk may turn out to need all of its bytes, after its changed ones
        let length = range.end - range.start;
        let most = length + changed;
        self.out.ledger.reserve(most)?;
        let copied = match self.copy_parts(round, index, range.clone(), tools)? {
            Some(copied) => copied,
            None => {
                tracing::info!(chunk = index, "does not hold the state before this round, copying it whole");
                self.out.shared.progress.more(length);
                self.data(range, tools, None)?
            }
        };
        Ok((copied, most))
    }

    /// Copies all of a chunk that is stored.
    fn copy_whole(&self, range: Range<u64>, tools: &mut Tools) -> Result<(Copied, u64)> {
        self.look(range.clone(), &mut tools.extents)?;
        let length = range.end - range.start;
        if tools.extents.no_data() {
            self.out.zero(range.start, length)?;
            self.out.shared.progress.add(0, length);
            let digest = if length == CHUNK { self.out.zeros } else { Blake3::of_zeros(length) };
            return Ok((Copied { digest, zero: true }, 0));
        }
        let data = tools.extents.data_bytes();
        self.out.limit.take(data, &self.out.shared.cancel)?;
        let extents = std::mem::take(&mut tools.extents);
        let result = self.data(range, tools, Some(&extents));
        tools.extents = extents;
        Ok((result?, data))
    }

    /// Reads all of a chunk and writes it where the target holds something else.
    fn copy_compared(
        &self,
        index: u64,
        range: Range<u64>,
        before: &Before,
        tools: &mut Tools,
    ) -> Result<(Copied, u64)> {
        self.look(range.clone(), &mut tools.extents)?;
        if tools.extents.no_data() {
            return Ok((self.out.settle_zeros(index, range, before)?, 0));
        }
        self.out.limit.take(tools.extents.data_bytes(), &self.out.shared.cancel)?;
        let bytes =
            part(tools.chunk.get_or_insert_with(|| Aligned::new(CHUNK as usize)).bytes(), 0..range.end - range.start);
        for extent in tools.extents.as_slice() {
            let whole = part(bytes, extent.start - range.start..extent.end() - range.start);
            if extent.kind != Kind::Data {
                whole.fill(0);
                continue;
            }
            for piece in pieces(extent.range()) {
                self.read(part(whole, piece.start - extent.start..piece.end - extent.start), piece.start)?;
            }
        }
        let digest = Blake3(*blake3::hash(bytes).as_bytes());
        self.out.settle(index, range.start, bytes, digest, before, &mut tools.other)
    }

    /// Asks the image what a range holds.
    fn look(&self, range: Range<u64>, extents: &mut Extents) -> Result<()> {
        extents.clear();
        watched(|| self.disk.image().extents(range, extents)).unwrap_or(Err(Error::Cancelled))
    }

    /// Reads, digests and writes the data of a chunk; `known` are its extents, whose bytes are reserved
    /// on the way: none where all is reserved already.
    fn data(&self, range: Range<u64>, tools: &mut Tools, known: Option<&Extents>) -> Result<Copied> {
        let mut own = Extents::default();
        let extents = match known {
            Some(extents) => extents,
            None => {
                self.look(range, &mut own)?;
                &own
            }
        };
        tools.hasher.reset();
        let mut zero = true;
        for extent in extents.as_slice() {
            if extent.kind != Kind::Data {
                self.out.zero(extent.start, extent.length)?;
                update_zeros(&mut tools.hasher, extent.length);
                self.out.shared.progress.add(0, extent.length);
                continue;
            }
            for piece in pieces(extent.range()) {
                let part = part(tools.memory.bytes(), 0..piece.end - piece.start);
                self.read(part, piece.start)?;
                tools.hasher.update(part);
                if known.is_some() {
                    self.out.ledger.reserve(piece.end - piece.start)?;
                }
                zero &= self.out.write(part, piece.start)?;
            }
        }
        Ok(Copied { digest: Blake3(*tools.hasher.finalize().as_bytes()), zero })
    }

    /// Copies the changed parts of a chunk and takes the others from the target; none if the target
    /// does not hold what it should, or cannot be read.
    fn copy_parts(&self, round: &Round, index: u64, range: Range<u64>, tools: &mut Tools) -> Result<Option<Copied>> {
        let Some(base) = round.base(index) else {
            return Ok(None);
        };
        let mut before = blake3::Hasher::new();
        tools.hasher.reset();
        let mut zero = true;
        for piece in pieces(range) {
            let buf = part(tools.memory.bytes(), 0..piece.end - piece.start);
            match self.out.sink.read_at(buf, piece.start) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(None),
                Err(error) => return Err(target(&*self.out.sink, format!("read at offset {}", piece.start), error)),
            }
            before.update(buf);
            for changed in round.parts(piece.clone()) {
                self.look(changed.clone(), &mut tools.extents)?;
                for extent in tools.extents.as_slice() {
                    let bytes = part(buf, extent.start - piece.start..extent.end() - piece.start);
                    if extent.kind == Kind::Data {
                        self.read(bytes, extent.start)?;
                    } else {
                        bytes.fill(0);
                    }
                }
                self.out.write(part(buf, changed.start - piece.start..changed.end - piece.start), changed.start)?;
            }
            zero &= is_zero(buf);
            tools.hasher.update(buf);
        }
        let digest = Blake3(*tools.hasher.finalize().as_bytes());
        let known = Blake3(*before.finalize().as_bytes()) == base.digest;
        Ok(known.then_some(Copied { digest, zero }))
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        watched(|| self.disk.image().read_at(buf, offset)).unwrap_or(Err(Error::Cancelled))
    }
}

/// Splits a range at multiples of the pieces' size, so that pieces hold whole grains and clusters.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let end = range.end.min((at / PIECE as u64 + 1) * PIECE as u64);
        let piece = at..end;
        at = end;
        (piece.start < piece.end).then_some(piece)
    })
}

/// Returns a part of a buffer that is large enough by its making.
fn part(buf: &mut [u8], range: Range<u64>) -> &mut [u8] {
    buf.get_mut(range.start as usize..range.end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_multiples_of_their_size() {
        let size = PIECE as u64;
        let found: Vec<_> = pieces(size - 5..2 * size + 3).collect();
        assert_eq!(found, [size - 5..size, size..2 * size, 2 * size..2 * size + 3]);
        assert_eq!(pieces(7..7).count(), 0);
    }
}
