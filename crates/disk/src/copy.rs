//! The copy engine: one disk, several workers, nothing marked that is not durable.
//!
//! ```text
//! worker 1..N   next chunk ─► extents ─┬─ nothing stored ──────────────────────► mark as zeros
//!                                      └─ piece: read, inflate, digest, write ─► pending
//! committer     pending ≥ 24 MiB, or half a second old ─► fdatasync(target) ─► chunk map ─► fdatasync(map)
//!               and looks for workers whose source hangs
//! ```
//!
//! A disk that comes as a stream has a worker more, which reads it, and the others inflate: see `copy/stream.rs`. A
//! copy over another state of the same disk writes only chunks whose digest differs: see [`Before`].
//!
//! A worker reserves the bytes of a piece before it writes them and the committer frees them once
//! the chunk is marked: never more than [`WINDOW`] bytes are written and not marked, so that a copy
//! that is killed writes at most these again. Pieces are small enough to stay in the processor's
//! cache from the inflater to the digest to the write, and large enough to keep the storage busy.

mod chunk;
mod commit;
mod out;
mod queue;
mod stream;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use crate::cancel::Cancel;
use crate::changed::Round;
use crate::chunk_map::{ChunkMap, Copied};
use crate::digest::CHUNK;
use crate::error::{Error, Result};
use crate::limit::Limit;
use crate::open::Disk;
use crate::patience::{self, Beat, Patience};
use crate::progress::Progress;
use crate::target::Sink;

use commit::Presence;
use out::Out;

pub use stream::copy_stream;

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

/// What the target is known to hold before a copy.
#[derive(Debug, Clone, Default)]
pub enum Before {
    /// Nothing of this disk: all is written.
    #[default]
    Nothing,
    /// Chunks with these digests: what has another digest is written.
    Known(Vec<Copied>),
    /// Some state of this disk: each chunk is read and compared before it is written.
    Unknown,
}

/// What the workers of a disk with random access share.
struct Run {
    out: Out,
    disk: Arc<Disk>,
    todo: Vec<u64>,
    next: AtomicUsize,
    way: Way,
}

/// How a chunk gets to the target.
enum Way {
    Whole,
    Changed(Round),
    Compared(Before),
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
    copy_with(disk, sink, map, Way::Whole, options, progress, cancel)
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
    copy_with(disk, sink, map, Way::Changed(round), options, progress, cancel)
}

/// Copies onto a target that holds another state of the disk: only chunks that differ are written. On success all is
/// durable and the map is complete.
pub fn copy_compared(
    disk: &Arc<Disk>,
    sink: &Arc<dyn Sink>,
    map: &mut ChunkMap,
    before: Before,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    progress.start(disk.size(), map.copied_bytes());
    copy_with(disk, sink, map, Way::Compared(before), options, progress, cancel)
}

fn copy_with(
    disk: &Arc<Disk>,
    sink: &Arc<dyn Sink>,
    map: &mut ChunkMap,
    way: Way,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let missing = (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_none());
    let todo: Vec<u64> = missing.map(|(index, _)| index).collect();
    // a stream is read in order, by one
    let workers = if disk.sequential() { 1 } else { workers(options.workers).min(todo.len()) };
    let run = Arc::new(Run {
        out: Out::new(sink, workers, options, progress, cancel),
        disk: disk.clone(),
        todo,
        next: AtomicUsize::new(0),
        way,
    });
    let work = |run: &Run, leave: Presence<'_>| run.work(leave);
    let started = (0..workers).map(|_| start(&run, |run| &run.out, work)).collect();
    let result = finish(&run.out, started, disk.name(), map);
    let stored = |range| disk.data_bytes(range).unwrap_or(CHUNK);
    result.map_err(|error| no_space(error, stored, &**sink, map))
}

/// A worker that was started: its sign of life, and its thread.
type Started = (Arc<Beat>, JoinHandle<()>);

/// Starts a worker. It owns what it uses, so that one that hangs does not hold up the others.
fn start<R: Send + Sync + 'static>(
    run: &Arc<R>,
    out: fn(&R) -> &Out,
    work: impl FnOnce(&R, Presence<'_>) + Send + 'static,
) -> Started {
    let (run, beat) = (run.clone(), Arc::<Beat>::default());
    let own = beat.clone();
    let thread = std::thread::spawn(move || {
        // the ledger must hear of the end even if a bug panics here, or it would wait for ever
        let leave = out(&run).ledger.enter(&own);
        patience::enter(&out(&run).shared, &own);
        work(&run, leave);
    });
    (beat, thread)
}

/// Commits what the workers write until they are gone.
fn finish(out: &Out, started: Vec<Started>, name: &str, map: &mut ChunkMap) -> Result<()> {
    let beats: Vec<Arc<Beat>> = started.iter().map(|(beat, _)| beat.clone()).collect();
    let result = out.ledger.commit(&*out.sink, map, &|| stalled(out, name, &beats));
    for (beat, thread) in started {
        // one that hangs in its source is left behind: it touches nothing any more
        if !beat.abandoned()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
    result
}

/// Leaves workers behind whose source hangs; returns how many, and what to tell.
fn stalled(out: &Out, name: &str, beats: &[Arc<Beat>]) -> Option<(usize, Error)> {
    let hung: Vec<_> = beats.iter().filter_map(|beat| beat.abandon(&out.shared)).collect();
    let longest = *hung.iter().max()?;
    Some((hung.len(), Error::Stalled { path: name.to_owned(), seconds: longest.as_secs() }))
}

fn target(sink: &dyn Sink, action: String, source: std::io::Error) -> Error {
    Error::Target { path: sink.path().to_owned(), action, source }
}

/// Turns a full file system into what the user needs to know; `stored` tells how much of a range is data.
fn no_space(error: Error, stored: impl Fn(Range<u64>) -> u64, sink: &dyn Sink, map: &ChunkMap) -> Error {
    use std::io::ErrorKind as Kind;
    let Error::Target { source, .. } = &error else {
        return error;
    };
    if !matches!(source.kind(), Kind::StorageFull | Kind::QuotaExceeded) {
        return error;
    }
    let missing = (0u64..).zip(map.chunks()).filter(|(_, chunk): &(u64, &Option<Copied>)| chunk.is_none());
    let needed = missing.map(|(index, _)| stored(map.range(index))).sum();
    Error::NoSpace { path: sink.path().to_owned(), needed, available: sink.available().unwrap_or(0) }
}
