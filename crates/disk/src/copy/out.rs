//! What all ways of copying write through: zeros left out, bytes reserved, digests compared.

use std::ops::Range;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::chunk_map::Copied;
use crate::digest::{Blake3, CHUNK};
use crate::direct::Aligned;
use crate::error::Result;
use crate::extents::is_zero;
use crate::limit::Limit;
use crate::patience;
use crate::progress::Progress;
use crate::target::Sink;

use super::commit::Ledger;
use super::{Before, Options, PIECE, target};

/// Zeros are left out in blocks of this size.
const ZERO_BLOCK: usize = 64 << 10;

/// What the workers of a copy share.
pub(super) struct Out {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) ledger: Ledger,
    pub(super) limit: Limit,
    pub(super) shared: Arc<patience::Shared>,
    /// Digest of a whole chunk of zeros.
    pub(super) zeros: Blake3,
}

impl Out {
    /// Returns the way to `sink` for so many workers.
    pub(super) fn new(
        sink: &Arc<dyn Sink>,
        workers: usize,
        options: &Options,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Self {
        Self {
            sink: sink.clone(),
            ledger: Ledger::new(workers),
            limit: options.limit.clone(),
            shared: Arc::new(patience::Shared::new(options.patience, cancel.clone(), progress.clone())),
            zeros: Blake3::of_zeros(CHUNK),
        }
    }

    /// Writes a chunk whose bytes are at hand, unless the target holds them; returns its mark and how many bytes were
    /// reserved for it. `other` is memory for the target's bytes.
    pub(super) fn settle(
        &self,
        index: u64,
        start: u64,
        bytes: &[u8],
        digest: Blake3,
        before: &Before,
        other: &mut Option<Aligned>,
    ) -> Result<(Copied, u64)> {
        let length = bytes.len() as u64;
        let same = match before {
            Before::Nothing => false,
            Before::Known(chunks) => known(chunks, index).is_some_and(|chunk| chunk.digest == digest),
            Before::Unknown => {
                let other = other.get_or_insert_with(|| Aligned::new(CHUNK as usize)).bytes();
                let held = other.get_mut(..bytes.len()).unwrap_or_default();
                match self.sink.read_at(held, start) {
                    Ok(()) => held == bytes,
                    Err(error) if error.kind() == std::io::ErrorKind::Unsupported => false,
                    Err(error) => return Err(target(&*self.sink, format!("read at offset {start}"), error)),
                }
            }
        };
        if same {
            self.shared.progress.add(0, length);
            return Ok((Copied { digest, zero: is_zero(bytes) }, 0));
        }
        self.ledger.reserve(length)?;
        let mut zero = true;
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            zero &= self.write(piece, start + (number * PIECE) as u64)?;
        }
        Ok((Copied { digest, zero }, length))
    }

    /// Makes a chunk zeros that is not stored.
    pub(super) fn settle_zeros(&self, index: u64, range: Range<u64>, before: &Before) -> Result<Copied> {
        let length = range.end - range.start;
        let held = matches!(before, Before::Known(chunks) if known(chunks, index).is_some_and(|chunk| chunk.zero));
        if !held {
            self.zero(range.start, length)?;
        }
        self.shared.progress.add(0, length);
        let digest = if length == CHUNK { self.zeros } else { Blake3::of_zeros(length) };
        Ok(Copied { digest, zero: true })
    }

    /// Writes a piece without its blocks of zeros; returns whether it is all zeros.
    pub(super) fn write(&self, piece: &[u8], offset: u64) -> Result<bool> {
        self.shared.cancel.check()?;
        let mut all_zero = true;
        let mut rest = piece;
        let mut at = offset;
        while !rest.is_empty() {
            let (length, zero) = run(rest);
            let (now, later) = rest.split_at(length);
            if zero {
                self.zero(at, length as u64)?;
                self.shared.progress.add(0, length as u64);
            } else {
                all_zero = false;
                self.sink
                    .write_at(now, at)
                    .map_err(|error| target(&*self.sink, format!("write at offset {at}"), error))?;
                self.shared.progress.add(length as u64, 0);
            }
            at += length as u64;
            rest = later;
        }
        Ok(all_zero)
    }

    pub(super) fn zero(&self, offset: u64, length: u64) -> Result<()> {
        if self.sink.starts_zeroed() {
            return Ok(());
        }
        self.sink
            .zero(offset, length)
            .map_err(|error| target(&*self.sink, format!("zero {length} bytes at offset {offset}"), error))
    }
}

fn known(chunks: &[Copied], index: u64) -> Option<&Copied> {
    chunks.get(usize::try_from(index).ok()?)
}

/// Returns how many of the first bytes are blocks of zeros, or blocks that are not, and which.
fn run(bytes: &[u8]) -> (usize, bool) {
    let mut blocks = bytes.chunks(ZERO_BLOCK).map(|block| (block.len(), is_zero(block)));
    let Some((mut length, zero)) = blocks.next() else {
        return (0, true);
    };
    for (more, _) in blocks.take_while(|(_, other)| *other == zero) {
        length += more;
    }
    (length, zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_blocks_are_zeros_or_not() {
        let mut bytes = vec![0; 3 * ZERO_BLOCK + 5];
        assert_eq!(run(&bytes), (bytes.len(), true));
        bytes[2 * ZERO_BLOCK] = 1;
        assert_eq!(run(&bytes), (2 * ZERO_BLOCK, true));
        assert_eq!(run(&bytes[2 * ZERO_BLOCK..]), (ZERO_BLOCK, false));
        assert_eq!(run(&[]), (0, true));
    }
}
