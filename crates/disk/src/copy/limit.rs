//! The bandwidth limit.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// Spreads bytes over time: each taker waits for its turn.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: u64,
    free: Mutex<Instant>,
}

impl Limiter {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { rate: bytes_per_second.max(1), free: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` may be read.
    pub(super) fn take(&self, bytes: u64, cancel: &Cancel) -> Result<()> {
        let wait = self.turn(bytes, Instant::now());
        if !wait.is_zero() && cancel.wait(wait) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn turn(&self, bytes: u64, now: Instant) -> Duration {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*free).max(now);
        let seconds = (bytes as f64 / self.rate as f64).min(1e6);
        *free = turn + Duration::from_secs_f64(seconds);
        turn - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_as_far_apart_as_their_bytes_need() {
        let limiter = Limiter::new(1000);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(limiter.turn(500, now), Duration::ZERO);
        assert_eq!(limiter.turn(2000, now), Duration::from_millis(500));
        assert_eq!(limiter.turn(1, now + Duration::from_secs(9)), Duration::ZERO, "unused time is not saved up");
    }

    #[test]
    fn a_wait_ends_when_cancelled() {
        let (limiter, cancel) = (Limiter::new(1), Cancel::new());
        limiter.take(1000, &cancel).expect("the first has no wait");
        cancel.cancel();
        assert!(matches!(limiter.take(1, &cancel), Err(Error::Cancelled)));
    }
}
