//! The ledger between workers and the committer: what is written, what is durable and marked.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::chunk_map::{ChunkMap, Copied};
use crate::error::{Error, Result};
use crate::patience::Beat;
use crate::target::Sink;

use super::WINDOW;

/// So many pending bytes are committed at once. Each commit costs two flushes of the storage, and
/// what the window has left must keep the workers busy meanwhile.
const BATCH: u64 = WINDOW / 8 * 3;
/// So many pending chunks are, even if they are all zeros.
const CHUNKS: usize = 16_384;
/// The longest that a written chunk waits for its commit.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Ledger {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes reserved and not marked.
    open: u64,
    pending: Vec<(u64, Copied)>,
    pending_bytes: u64,
    /// Somebody waits for room.
    full: bool,
    workers: usize,
    error: Option<Error>,
    stopped: bool,
}

/// A worker's presence; its drop without a word counts as a failure.
pub(super) struct Presence<'a> {
    ledger: &'a Ledger,
    beat: &'a Beat,
    ended: std::cell::Cell<bool>,
}

/// Leaves workers behind that hang; returns how many and why.
pub(super) type Watchdog<'a> = &'a dyn Fn() -> Option<(usize, Error)>;

impl State {
    /// Returns whether it is time to commit.
    fn ripe(&self) -> bool {
        self.pending_bytes >= BATCH || self.pending.len() >= CHUNKS || self.full && self.pending_bytes > 0
    }

    fn stop(&mut self, error: Error) {
        // the first error counts; a cancel that it causes elsewhere does not replace it
        if self.error.is_none() || matches!(self.error, Some(Error::Cancelled)) {
            self.error = Some(error);
        }
        self.stopped = true;
    }
}

impl Ledger {
    pub(super) fn new(workers: usize) -> Self {
        Self { state: Mutex::new(State { workers, ..State::default() }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a worker or the committer failed.
    pub(super) fn stopped(&self) -> bool {
        self.lock().stopped
    }

    pub(super) fn enter<'a>(&'a self, beat: &'a Beat) -> Presence<'a> {
        Presence { ledger: self, beat, ended: std::cell::Cell::new(false) }
    }

    /// Waits until `bytes` more may be written without being marked.
    pub(super) fn reserve(&self, bytes: u64) -> Result<()> {
        let mut state = self.lock();
        while state.open + bytes > WINDOW && !state.stopped {
            // what is pending goes out now, or nobody would move before the committer's patience ends
            if !std::mem::replace(&mut state.full, true) {
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return Err(Error::Cancelled);
        }
        state.open += bytes;
        Ok(())
    }

    /// Makes chunks durable and marks them until all workers are gone; returns their first error.
    pub(super) fn commit(&self, sink: &dyn Sink, map: &mut ChunkMap, watchdog: Watchdog<'_>) -> Result<()> {
        let mut failed = None;
        loop {
            let mut state = self.lock();
            while state.workers > 0 && !state.ripe() {
                let (next, timeout) =
                    self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
                state = next;
                if let Some((hung, error)) = watchdog() {
                    state.workers = state.workers.saturating_sub(hung);
                    state.stop(error);
                    self.changed.notify_all();
                }
                if timeout.timed_out() && !state.pending.is_empty() {
                    break;
                }
            }
            let last = state.workers == 0;
            state.full = false;
            let (chunks, bytes) = (std::mem::take(&mut state.pending), std::mem::take(&mut state.pending_bytes));
            drop(state);
            if failed.is_none() && !chunks.is_empty() {
                failed = persist(sink, map, chunks).err();
            }
            let mut state = self.lock();
            state.open -= bytes.min(state.open);
            state.stopped |= failed.is_some();
            self.changed.notify_all();
            if last {
                // a failed commit explains what the workers then run into
                return failed.or(state.error.take()).map_or(Ok(()), Err);
            }
        }
    }
}

fn persist(sink: &dyn Sink, map: &mut ChunkMap, chunks: Vec<(u64, Copied)>) -> Result<()> {
    sink.sync().map_err(|source| Error::Target {
        path: sink.path().to_owned(),
        action: "make written bytes durable".into(),
        source,
    })?;
    map.mark(chunks)
}

impl Presence<'_> {
    /// Hands over a chunk that is written.
    pub(super) fn done(&self, index: u64, copied: Copied, bytes: u64) {
        let mut state = self.ledger.lock();
        state.pending.push((index, copied));
        state.pending_bytes += bytes;
        if state.ripe() {
            self.ledger.changed.notify_all();
        }
    }

    /// Ends the worker and, soon, the others.
    pub(super) fn fail(self, error: Error) {
        if !self.beat.abandoned() {
            self.ledger.lock().stop(error);
        }
    }

    /// Ends the worker: there is nothing left to do.
    pub(super) fn finish(self) {
        self.ended.set(true);
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        // one that was left behind is counted already
        if self.beat.abandoned() {
            return;
        }
        let mut state = self.ledger.lock();
        state.workers = state.workers.saturating_sub(1);
        if !self.ended.get() {
            state.stopped = true;
        }
        self.ledger.changed.notify_all();
    }
}
