//! A disk that comes as a stream: one reader, several workers that inflate.
//!
//! ```text
//! reader      network ─► grains of a chunk ─► queue ─┐        chunks between two grains are zeros
//! worker 1..N      ┌─────────────────────────────────┘
//!                  └► inflate, digest ─► same as before? ─► write ─► pending        committer as in `copy`
//! ```
//!
//! Chunks that an earlier run had marked are passed over; the stream itself begins anew.

use std::ops::Range;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::chunk_map::{ChunkMap, Copied};
use crate::digest::{Blake3, CHUNK};
use crate::direct::Aligned;
use crate::error::{Error, Result};
use crate::patience::watched;
use crate::progress::Progress;
use crate::stream::{Load, Stream};
use crate::target::Sink;

use super::commit::Presence;
use super::out::Out;
use super::queue::Queue;
use super::{Before, Options, finish, no_space, start};

/// Chunks that wait for a worker: packed, some MiB each.
const QUEUE: usize = 4;

/// What the reader hands over.
enum Task {
    /// The stream has nothing for this chunk.
    Zeros(u64),
    Load(Load),
}

struct Run {
    out: Out,
    stream: Arc<Stream>,
    /// Whether a chunk is to be copied.
    todo: Vec<bool>,
    before: Before,
    queue: Queue<Task>,
}

/// Copies what the map does not have yet; with a [`Before`], writes only what differs. On success all is durable and
/// the map is complete.
pub fn copy_stream(
    stream: &Arc<Stream>,
    sink: &Arc<dyn Sink>,
    map: &mut ChunkMap,
    before: Before,
    options: &Options,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    progress.start(stream.size(), map.copied_bytes());
    let todo: Vec<bool> = map.chunks().iter().map(Option::is_none).collect();
    let workers = super::workers(options.workers).min(todo.len().max(1));
    let run = Arc::new(Run {
        // the reader is one more
        out: Out::new(sink, workers + 1, options, progress, cancel),
        stream: stream.clone(),
        todo,
        before,
        queue: Queue::new(QUEUE),
    });
    let mut started = vec![start(&run, |run| &run.out, |run: &Run, leave| run.read(leave))];
    started.extend((0..workers).map(|_| start(&run, |run| &run.out, |run: &Run, leave| run.work(leave))));
    let result = finish(&run.out, started, stream.name(), map);
    // how much of a stream is still to come nobody knows
    let stored = |range: Range<u64>| range.end - range.start;
    result.map_err(|error| no_space(error, stored, &**sink, map))
}

impl Run {
    /// Reads the stream to its end.
    fn read(&self, leave: Presence<'_>) {
        /// Closes the queue even if a bug panics here.
        struct Closing<'a>(&'a Queue<Task>);
        impl Drop for Closing<'_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let _closing = Closing(&self.queue);
        match self.read_all() {
            Ok(()) => leave.finish(),
            Err(error) => leave.fail(error),
        }
    }

    fn read_all(&self) -> Result<()> {
        // a stream is not begun for nothing
        if !self.todo.contains(&true) {
            return Ok(());
        }
        let mut loads = self.stream.loads();
        let wanted = |index: u64| usize::try_from(index).ok().and_then(|index| self.todo.get(index)) == Some(&true);
        let mut at = 0;
        // a worker that failed has told why
        let give = |task| self.queue.push(task, || self.out.ledger.stopped()).then_some(()).ok_or(Error::Cancelled);
        loop {
            self.out.shared.cancel.check()?;
            let load = watched(|| loads.next(wanted)).unwrap_or(Err(Error::Cancelled))?;
            let end = load.as_ref().map_or(self.todo.len() as u64, |load| load.index);
            for index in (at..end).filter(|index| wanted(*index)) {
                give(Task::Zeros(index))?;
            }
            let Some(load) = load else {
                return Ok(());
            };
            at = load.index + 1;
            self.out.limit.take(load.bytes(), &self.out.shared.cancel)?;
            give(Task::Load(load))?;
        }
    }

    fn work(&self, leave: Presence<'_>) {
        let (mut chunk, mut other) = (Aligned::new(CHUNK as usize), None);
        while let Some(task) = self.queue.pop(|| self.out.ledger.stopped()) {
            let result = match task {
                Task::Zeros(index) => {
                    self.out.settle_zeros(index, self.range(index), &self.before).map(|copied| (index, copied, 0))
                }
                Task::Load(load) => {
                    self.unpack(&load, &mut chunk, &mut other).map(|(copied, reserved)| (load.index, copied, reserved))
                }
            };
            match result {
                Ok((index, copied, reserved)) => leave.done(index, copied, reserved),
                Err(error) => return leave.fail(error),
            }
        }
        leave.finish();
    }

    fn unpack(&self, load: &Load, chunk: &mut Aligned, other: &mut Option<Aligned>) -> Result<(Copied, u64)> {
        self.out.shared.cancel.check()?;
        let range = self.range(load.index);
        let bytes = chunk.bytes().get_mut(..(range.end - range.start) as usize).unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        // each grain goes to the digest while it is in the cache
        self.stream.unpack(load, bytes, |part| {
            hasher.update(part);
        })?;
        let digest = Blake3(*hasher.finalize().as_bytes());
        self.out.settle(load.index, range.start, bytes, digest, &self.before, other)
    }

    fn range(&self, index: u64) -> Range<u64> {
        let start = index * CHUNK;
        start..self.stream.size().min(start + CHUNK)
    }
}
