//! The copy engine: one disk, several workers, nothing marked that is not durable.
//!
//! ```text
//! worker 1..N   next chunk ─► extents ─┬─ nothing stored ──────────────────────► mark as zeros
//!                                      └─ piece: read, inflate, digest, write ─► pending
//! committer     pending ≥ 16 MiB, or half a second old ─► fdatasync(target) ─► chunk map ─► fdatasync(map)
//! ```
//!
//! A worker reserves the bytes of a chunk before it writes them and the committer frees them once
//! the chunk is marked: never more than [`WINDOW`] bytes are written and not marked, so that a copy
//! that is killed writes at most these again. Pieces are small enough to stay in the processor's
//! cache from the inflater to the digest to the write.

mod commit;
mod limit;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cancel::Cancel;
use crate::chunk_map::{ChunkMap, Copied};
use crate::digest::{Blake3, CHUNK, update_zeros};
use crate::direct::Aligned;
use crate::error::{Error, Result};
use crate::extents::{Extents, Kind, is_zero};
use crate::open::Disk;
use crate::progress::Progress;
use crate::target::Sink;

use commit::Ledger;
use limit::Limiter;

/// The most bytes that are written and not yet marked: what a killed copy may write again.
pub const WINDOW: u64 = 64 << 20;
/// Bytes that go through the pipeline at once.
const PIECE: usize = 1 << 20;
/// Zeros are left out in blocks of this size.
const ZERO_BLOCK: usize = 64 << 10;

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Number of workers; none for two per processor, so that some inflate while others write.
    pub workers: Option<usize>,
    /// The most bytes read of the disk a second.
    pub bandwidth: Option<u64>,
}

/// Returns the number of workers for `asked`.
pub(crate) fn workers(asked: Option<usize>) -> usize {
    let default = || std::thread::available_parallelism().map_or(4, |n| 2 * n.get()).clamp(4, 16);
    asked.unwrap_or_else(default).clamp(1, 64)
}

/// What the workers share.
struct Run<'a> {
    disk: &'a Disk,
    sink: &'a dyn Sink,
    todo: &'a [u64],
    next: AtomicUsize,
    ledger: Ledger,
    limiter: Option<Limiter>,
    progress: &'a Progress,
    cancel: &'a Cancel,
    /// Digest of a whole chunk of zeros.
    zeros: Blake3,
}

/// Copies what the map does not have yet. On success all is durable and the map is complete.
pub fn copy(
    disk: &Disk,
    sink: &dyn Sink,
    map: &mut ChunkMap,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    progress.start(disk.size(), map.copied_bytes());
    let todo: Vec<u64> =
        (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_none()).map(|(index, _)| index).collect();
    // a stream is read in order, by one
    let workers = if disk.sequential() { 1 } else { workers(options.workers) };
    let run = Run {
        disk,
        sink,
        todo: &todo,
        next: AtomicUsize::new(0),
        ledger: Ledger::new(workers),
        limiter: options.bandwidth.map(Limiter::new),
        progress,
        cancel,
        zeros: Blake3::of_zeros(CHUNK),
    };
    let result = std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| run.work());
        }
        run.ledger.commit(sink, map)
    });
    result.map_err(|error| no_space(error, disk, sink, map))
}

impl Run<'_> {
    /// Copies chunks until there are none left, one fails or the caller cancels.
    fn work(&self) {
        // the ledger must hear of the end even if a bug panics here, or it would wait for ever
        let leave = self.ledger.enter();
        let mut memory = Aligned::new(PIECE);
        let buf = memory.bytes();
        let mut extents = Extents::default();
        while let Some(index) = self.todo.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.ledger.stopped() {
                return;
            }
            match self.copy_chunk(*index, buf, &mut extents) {
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
    fn copy_chunk(&self, index: u64, buf: &mut [u8], extents: &mut Extents) -> Result<(Copied, u64)> {
        self.cancel.check()?;
        let start = index * CHUNK;
        let length = CHUNK.min(self.disk.size() - start);
        extents.clear();
        self.disk.image().extents(start..start + length, extents)?;
        if extents.no_data() {
            self.zero(start, length)?;
            self.progress.add(0, length);
            let digest = if length == CHUNK { self.zeros } else { Blake3::of_zeros(length) };
            return Ok((Copied { digest, zero: true }, 0));
        }
        let data = extents.data_bytes();
        if let Some(limiter) = &self.limiter {
            limiter.take(data, self.cancel)?;
        }
        self.ledger.reserve(data)?;
        let mut hasher = blake3::Hasher::new();
        let mut zero = true;
        for extent in extents.as_slice() {
            if extent.kind != Kind::Data {
                self.zero(extent.start, extent.length)?;
                update_zeros(&mut hasher, extent.length);
                self.progress.add(0, extent.length);
                continue;
            }
            let mut at = extent.start;
            while at < extent.end() {
                // pieces end at multiples of their size, so that they hold whole grains and clusters
                let end = extent.end().min((at / PIECE as u64 + 1) * PIECE as u64);
                let part = buf.get_mut(..(end - at) as usize).unwrap_or_default();
                self.disk.image().read_at(part, at)?;
                hasher.update(part);
                zero &= self.write(part, at)?;
                at = end;
            }
        }
        let digest = Blake3(*hasher.finalize().as_bytes());
        Ok((Copied { digest, zero }, data))
    }

    /// Writes a piece without its blocks of zeros; returns whether it is all zeros.
    fn write(&self, piece: &[u8], offset: u64) -> Result<bool> {
        self.cancel.check()?;
        let blocks: Vec<(usize, &[u8])> = (0..).step_by(ZERO_BLOCK).zip(piece.chunks(ZERO_BLOCK)).collect();
        let marked: Vec<(usize, usize, bool)> =
            blocks.into_iter().map(|(at, block)| (at, at + block.len(), is_zero(block))).collect();
        let mut all_zero = true;
        for run in marked.chunk_by(|a, b| a.2 == b.2) {
            let (Some((from, _, zero)), Some((_, to, _))) = (run.first(), run.last()) else {
                continue;
            };
            let at = offset + *from as u64;
            let part = piece.get(*from..*to).unwrap_or_default();
            if *zero {
                self.zero(at, part.len() as u64)?;
                self.progress.add(0, part.len() as u64);
            } else {
                all_zero = false;
                self.sink
                    .write_at(part, at)
                    .map_err(|error| target(self.sink, format!("write at offset {at}"), error))?;
                self.progress.add(part.len() as u64, 0);
            }
        }
        Ok(all_zero)
    }

    fn zero(&self, offset: u64, length: u64) -> Result<()> {
        if self.sink.starts_zeroed() {
            return Ok(());
        }
        self.sink
            .zero(offset, length)
            .map_err(|error| target(self.sink, format!("zero {length} bytes at offset {offset}"), error))
    }
}

fn target(sink: &dyn Sink, action: String, source: std::io::Error) -> Error {
    Error::Target { path: sink.path().to_owned(), action, source }
}

/// Turns a full file system into what the user needs to know.
fn no_space(error: Error, disk: &Disk, sink: &dyn Sink, map: &ChunkMap) -> Error {
    use std::io::ErrorKind as Kind;
    let Error::Target { source, .. } = &error else {
        return error;
    };
    if !matches!(source.kind(), Kind::StorageFull | Kind::QuotaExceeded) {
        return error;
    }
    let missing = (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_none());
    let needed = missing.map(|(index, _)| disk.data_bytes(map.range(index)).unwrap_or(CHUNK)).sum();
    Error::NoSpace { path: sink.path().to_owned(), needed, available: sink.available().unwrap_or(0) }
}
