//! The copy engine: one disk, several workers, nothing marked that is not durable.
//!
//! ```text
//! worker 1..N   next chunk ─► extents ─┬─ nothing stored ──────────────────────► mark as zeros
//!                                      └─ piece: read, inflate, digest, write ─► pending
//! committer     pending ≥ 24 MiB, or half a second old ─► fdatasync(target) ─► chunk map ─► fdatasync(map)
//!               and looks for workers whose source hangs
//! ```
//!
//! A worker reserves the bytes of a piece before it writes them and the committer frees them once
//! the chunk is marked: never more than [`WINDOW`] bytes are written and not marked, so that a copy
//! that is killed writes at most these again. Pieces are small enough to stay in the processor's
//! cache from the inflater to the digest to the write, and large enough to keep the storage busy.

mod chunk;
mod commit;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use crate::cancel::Cancel;
use crate::changed::Round;
use crate::chunk_map::{ChunkMap, Copied};
use crate::digest::{Blake3, CHUNK};
use crate::error::{Error, Result};
use crate::limit::Limit;
use crate::open::Disk;
use crate::patience::{self, Beat, Patience};
use crate::progress::Progress;
use crate::target::Sink;

use commit::Ledger;

/// The most bytes that are written and not yet marked: what a killed copy may write again.
pub const WINDOW: u64 = 64 << 20;
/// Bytes that go through the pipeline at once: a huge page, one request to the device.
const PIECE: usize = 2 << 20;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Number of workers, at most 15; none for four per processor, so that some inflate while others write.
    pub workers: Option<usize>,
    /// How fast the disk may be read.
    pub limit: Limit,
    /// How long the source is waited for.
    pub patience: Patience,
}

/// The most workers: each may hold a chunk that waits for room in the window, and all of these
/// together must leave room.
const WORKERS: usize = (WINDOW / CHUNK) as usize - 1;

/// Returns the number of workers for `asked`.
pub(crate) fn workers(asked: Option<usize>) -> usize {
    let default = || std::thread::available_parallelism().map_or(8, |n| 4 * n.get()).clamp(8, WORKERS);
    asked.unwrap_or_else(default).clamp(1, WORKERS)
}

/// What the workers share.
struct Run {
    disk: Arc<Disk>,
    sink: Arc<dyn Sink>,
    todo: Vec<u64>,
    next: AtomicUsize,
    round: Option<Round>,
    ledger: Ledger,
    limit: Limit,
    shared: Arc<patience::Shared>,
    /// Digest of a whole chunk of zeros.
    zeros: Blake3,
}

/// Copies what the map does not have yet. On success all is durable and the map is complete.
pub fn copy(
    disk: &Arc<Disk>,
    sink: &Arc<dyn Sink>,
    map: &mut ChunkMap,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    progress.start(disk.size(), map.copied_bytes());
    copy_with(disk, sink, map, None, options, progress, cancel)
}

/// Copies what changed in the chunks that the map does not have yet, onto a target that holds the
/// round's base. On success all is durable and the map is complete.
pub fn copy_changed(
    disk: &Arc<Disk>,
    sink: &Arc<dyn Sink>,
    map: &mut ChunkMap,
    round: Round,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let missing = (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_none());
    let missing: u64 = missing.map(|(index, _)| round.bytes(map.range(index))).sum();
    let total = round.bytes(0..disk.size());
    progress.start(total, total.saturating_sub(missing));
    copy_with(disk, sink, map, Some(round), options, progress, cancel)
}

fn copy_with(
    disk: &Arc<Disk>,
    sink: &Arc<dyn Sink>,
    map: &mut ChunkMap,
    round: Option<Round>,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let missing = (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_none());
    let todo: Vec<u64> = missing.map(|(index, _)| index).collect();
    // a stream is read in order, by one
    let workers = if disk.sequential() { 1 } else { workers(options.workers).min(todo.len()) };
    let run = Arc::new(Run {
        disk: disk.clone(),
        sink: sink.clone(),
        todo,
        next: AtomicUsize::new(0),
        round,
        ledger: Ledger::new(workers),
        limit: options.limit.clone(),
        shared: Arc::new(patience::Shared::new(options.patience, cancel.clone(), progress.clone())),
        zeros: Blake3::of_zeros(CHUNK),
    });
    let started = start(&run, workers);
    let beats: Vec<Arc<Beat>> = started.iter().map(|(beat, _)| beat.clone()).collect();
    let result = run.ledger.commit(&*run.sink, map, &|| stalled(&run, &beats));
    for (beat, thread) in started {
        // one that hangs in its source is left behind: it touches nothing any more
        if !beat.abandoned()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
    result.map_err(|error| no_space(error, disk, &**sink, map))
}

/// Starts the workers. They own what they use, so that one that hangs does not hold up the others.
fn start(run: &Arc<Run>, workers: usize) -> Vec<(Arc<Beat>, JoinHandle<()>)> {
    let worker = |_| {
        let (run, beat) = (run.clone(), Arc::<Beat>::default());
        let own = beat.clone();
        let thread = std::thread::spawn(move || {
            // the ledger must hear of the end even if a bug panics here, or it would wait for ever
            let leave = run.ledger.enter(&own);
            patience::enter(&run.shared, &own);
            run.work(leave);
        });
        (beat, thread)
    };
    (0..workers).map(worker).collect()
}

/// Leaves workers behind whose source hangs; returns how many, and what to tell.
fn stalled(run: &Run, beats: &[Arc<Beat>]) -> Option<(usize, Error)> {
    let hung: Vec<_> = beats.iter().filter_map(|beat| beat.abandon(&run.shared)).collect();
    let longest = *hung.iter().max()?;
    Some((hung.len(), Error::Stalled { path: run.disk.name().to_owned(), seconds: longest.as_secs() }))
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
    let missing = (0u64..).zip(map.chunks()).filter(|(_, chunk): &(u64, &Option<Copied>)| chunk.is_none());
    let needed = missing.map(|(index, _)| disk.data_bytes(map.range(index)).unwrap_or(CHUNK)).sum();
    Error::NoSpace { path: sink.path().to_owned(), needed, available: sink.available().unwrap_or(0) }
}
