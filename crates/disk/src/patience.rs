//! How long a source is waited for: reads that fail are tried again, reads that hang are noticed.
//!
//! ```text
//! read of a range ─► error that may pass ─► pause 20 ms, 60 ms, 180 ms … 5 s ─► the same range again
//!                                           until its tries or the copy's budget of waiting are used up
//! watchdog        ─► a read without a sign of life for longer than the deadline ─► SourceStalled;
//!                    its thread is left behind and may not touch the target any more
//! ```
//!
//! A worker [enters](enter) before it reads; the reads beneath it, however deep, find the copy's
//! patience in a variable of the thread. Without it (`info`, `map`) the defaults hold.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::progress::Progress;

/// What a copy puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often one range is read at most.
    pub tries: u32,
    /// How long all ranges of a copy may wait for further tries, together.
    pub budget: Duration,
    /// The longest that a read may hang.
    pub stalled: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 8, budget: Duration::from_secs(300), stalled: Duration::from_secs(120) }
    }
}

/// The first pause; each further one is three times as long.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// What the workers of a copy share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub patience: Patience,
    pub cancel: Cancel,
    pub progress: Progress,
    /// Milliseconds waited so far.
    waited: AtomicU64,
    started: Instant,
}

impl Shared {
    pub(crate) fn new(patience: Patience, cancel: Cancel, progress: Progress) -> Self {
        Self { patience, cancel, progress, waited: AtomicU64::new(0), started: Instant::now() }
    }

    fn now(&self) -> u64 {
        // 0 says that nothing is read
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 2) + 1
    }
}

/// The sign of life of one worker: when its read began, 0 while it does not read.
#[derive(Debug, Default)]
pub(crate) struct Beat(AtomicU64);

/// The worker was left behind.
const ABANDONED: u64 = u64::MAX;

impl Beat {
    /// Leaves the worker behind if its read is older than the deadline; returns for how long it hung.
    pub(crate) fn abandon(&self, shared: &Shared) -> Option<Duration> {
        let since = self.0.load(Ordering::Acquire);
        if since == 0 || since == ABANDONED {
            return None;
        }
        let age = Duration::from_millis(shared.now().saturating_sub(since));
        if age < shared.patience.stalled {
            return None;
        }
        // a worker that came back meanwhile has changed it
        self.0.compare_exchange(since, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok().then_some(age)
    }

    /// Returns whether the worker was left behind.
    pub(crate) fn abandoned(&self) -> bool {
        self.0.load(Ordering::Acquire) == ABANDONED
    }

    /// Sets the time unless the worker was left behind; returns whether it was not.
    fn set(&self, value: u64) -> bool {
        let keep = |was| (was != ABANDONED).then_some(value);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, keep).is_ok()
    }
}

#[derive(Clone)]
struct Reading {
    shared: Arc<Shared>,
    beat: Arc<Beat>,
}

thread_local! {
    static READING: RefCell<Option<Reading>> = const { RefCell::new(None) };
}

/// Makes this thread a worker of a copy.
pub(crate) fn enter(shared: &Arc<Shared>, beat: &Arc<Beat>) {
    READING.set(Some(Reading { shared: shared.clone(), beat: beat.clone() }));
}

/// Runs `read` under the eyes of the watchdog; none if the thread was left behind meanwhile.
pub(crate) fn watched<T>(read: impl FnOnce() -> T) -> Option<T> {
    let Some(reading) = READING.with_borrow(Clone::clone) else {
        return Some(read());
    };
    if !reading.beat.set(reading.shared.now()) {
        return None;
    }
    let result = read();
    reading.beat.set(0).then_some(result)
}

/// Notes that the source answers: one call of a format may read for minutes.
pub fn alive() {
    READING.with_borrow(|reading| {
        if let Some(Reading { shared, beat }) = reading {
            let now = shared.now();
            // outside of a watched read there is nothing to note
            let _ = beat
                .0
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |was| (was != 0 && was != ABANDONED).then_some(now));
        }
    });
}

/// Reads with further tries: `read` is called until it succeeds, fails for good or patience ends.
pub(crate) fn retry(name: &str, offset: u64, mut read: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let reading = READING.with_borrow(Clone::clone);
    let patience = reading.as_ref().map_or_else(Patience::default, |reading| reading.shared.patience);
    let mut pause = PAUSE;
    let mut tried = 1;
    loop {
        let Err(error) = read() else {
            alive();
            return Ok(());
        };
        if !transient(&error) || tried >= patience.tries {
            return Err(error);
        }
        tracing::warn!(source = name, offset, %error, tried, "read failed, trying again");
        match &reading {
            None => std::thread::sleep(pause),
            Some(Reading { shared, beat }) => {
                let waiting = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let waited = shared.waited.fetch_add(waiting, Ordering::Relaxed);
                if Duration::from_millis(waited) >= patience.budget || shared.cancel.wait(pause) {
                    return Err(error);
                }
                shared.progress.retried();
                // an answer, if a bad one, is a sign of life
                alive();
                if beat.abandoned() {
                    return Err(error);
                }
            }
        }
        tried += 1;
        pause = (pause * 3).min(LONGEST);
    }
}

/// Returns whether the same read may succeed a moment later.
fn transient(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Interrupted
            | Kind::WouldBlock
            | Kind::TimedOut
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::ConnectionRefused
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::ResourceBusy
            | Kind::StaleNetworkFileHandle
    ) || error.raw_os_error() == Some(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(patience: Patience) -> Arc<Shared> {
        Arc::new(Shared::new(patience, Cancel::new(), Progress::new()))
    }

    fn eio() -> io::Error {
        io::Error::from_raw_os_error(libc::EIO)
    }

    #[test]
    fn the_budget_of_all_ranges_ends() {
        let patience = Patience { tries: 3, budget: Duration::from_millis(30), ..Patience::default() };
        let (shared, beat) = (shared(patience), Arc::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enter(&shared, &beat);
                let mut tried = 0;
                let mut fail = || {
                    tried += 1;
                    Err(eio())
                };
                retry("a", 0, &mut fail).expect_err("tries end");
                retry("a", 1, &mut fail).expect_err("the budget is used up");
                assert_eq!(tried, 4, "two pauses of 20 and 60 ms, then none");
                assert_eq!(shared.progress.snapshot().retries, 2);
            });
        });
    }

    #[test]
    fn who_hangs_is_left_behind_and_told() {
        let patience = Patience { stalled: Duration::ZERO, ..Patience::default() };
        let (shared, beat) = (shared(patience), Arc::<Beat>::default());
        assert_eq!(beat.abandon(&shared), None, "nobody reads");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enter(&shared, &beat);
                assert_eq!(watched(|| 1), Some(1));
                let late = watched(|| beat.abandon(&shared).expect("hangs"));
                assert!(late.is_none() && beat.abandoned());
                assert!(watched(|| 1).is_none(), "and stays so");
            });
        });
    }
}
