//! What a running copy tells: counters that workers add to, a smoothed rate, the remaining time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Half of the rate comes from the last this many seconds.
const HALF_LIFE: f64 = 4.0;
/// Samples closer together than this are not taken.
const SAMPLE: Duration = Duration::from_millis(200);

/// Shared counters of one stage (copy or verification); clones are the same counters.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    total: AtomicU64,
    done: AtomicU64,
    written: AtomicU64,
    skipped: AtomicU64,
    resumed: AtomicU64,
    retries: AtomicU64,
    rate: Mutex<Option<Rate>>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    at: Instant,
    done: u64,
    bytes_per_second: f64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Snapshot {
    /// Bytes of the virtual disk.
    pub total: u64,
    /// Bytes settled: written, skipped or resumed.
    pub done: u64,
    /// Bytes written to the target.
    pub written: u64,
    /// Bytes that were zero or unallocated and not written.
    pub skipped: u64,
    /// Bytes of an earlier run that were kept.
    pub resumed: u64,
    /// Reads of the source that were tried again.
    pub retries: u64,
    /// Bytes settled a second, smoothed.
    pub rate: f64,
    /// Remaining time at that rate.
    pub eta: Option<Duration>,
}

impl Progress {
    /// Returns counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn start(&self, total: u64, resumed: u64) {
        self.0.total.store(total, Ordering::Relaxed);
        self.0.resumed.store(resumed, Ordering::Relaxed);
        self.0.done.store(resumed, Ordering::Relaxed);
        *self.rate() = Some(Rate { at: Instant::now(), done: resumed, bytes_per_second: 0.0 });
    }

    pub(crate) fn add(&self, written: u64, skipped: u64) {
        self.0.written.fetch_add(written, Ordering::Relaxed);
        self.0.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.0.done.fetch_add(written + skipped, Ordering::Relaxed);
    }

    /// Notes that there is more to do than it seemed.
    pub(crate) fn more(&self, bytes: u64) {
        self.0.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes a further try of a read.
    pub(crate) fn retried(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    fn rate(&self) -> std::sync::MutexGuard<'_, Option<Rate>> {
        self.0.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the counters as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_at(Instant::now())
    }

    fn snapshot_at(&self, now: Instant) -> Snapshot {
        let (total, done) = (self.0.total.load(Ordering::Relaxed), self.0.done.load(Ordering::Relaxed));
        let mut rate = 0.0;
        if let Some(last) = self.rate().as_mut() {
            let passed = now.saturating_duration_since(last.at);
            if passed >= SAMPLE {
                *last = sample(*last, now, passed.as_secs_f64(), done);
            }
            rate = last.bytes_per_second;
        }
        let left = total.saturating_sub(done) as f64;
        let eta = (rate >= 1.0).then(|| Duration::try_from_secs_f64(left / rate).ok()).flatten();
        Snapshot {
            total,
            done,
            written: self.0.written.load(Ordering::Relaxed),
            skipped: self.0.skipped.load(Ordering::Relaxed),
            resumed: self.0.resumed.load(Ordering::Relaxed),
            retries: self.0.retries.load(Ordering::Relaxed),
            rate,
            eta,
        }
    }
}

fn sample(last: Rate, now: Instant, seconds: f64, done: u64) -> Rate {
    let current = done.saturating_sub(last.done) as f64 / seconds;
    let keep = if last.bytes_per_second == 0.0 { 0.0 } else { 0.5f64.powf(seconds / HALF_LIFE) };
    Rate { at: now, done, bytes_per_second: last.bytes_per_second * keep + current * (1.0 - keep) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_smoothed_and_gives_the_remaining_time() {
        let progress = Progress::new();
        progress.start(1000, 100);
        let start = progress.rate().expect("was started").at;
        progress.add(100, 0);
        let first = progress.snapshot_at(start + Duration::from_secs(1));
        assert_eq!((first.rate, first.done, first.eta), (100.0, 200, Some(Duration::from_secs(8))));
        progress.add(150, 50);
        let second = progress.snapshot_at(start + Duration::from_secs(2));
        assert!(second.rate > 100.0 && second.rate < 200.0, "between the old and the new: {}", second.rate);
        assert_eq!((second.written, second.skipped, second.resumed), (250, 50, 100));
    }
}
