//! A flag that ends a copy from another thread, and that waits can listen to.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A shared cancel flag; clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<(Mutex<bool>, Condvar)>,
    other: Option<Box<Cancel>>,
}

/// How often a wait looks at its second flag.
const LOOK: Duration = Duration::from_millis(50);

impl Cancel {
    /// Returns a flag that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag and wakes whoever waits.
    pub fn cancel(&self) {
        *self.flag.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.flag.1.notify_all();
    }

    /// Returns whether the flag is raised.
    pub fn is_cancelled(&self) -> bool {
        *self.flag.0.lock().unwrap_or_else(PoisonError::into_inner)
            || self.other.as_ref().is_some_and(|other| other.is_cancelled())
    }

    /// Returns a flag that also is raised when `other` is.
    pub fn or(&self, other: &Self) -> Self {
        Self { flag: self.flag.clone(), other: Some(Box::new(other.clone())) }
    }

    /// Fails with [`Error::Cancelled`] when the flag is raised.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Waits for `duration`, or less when the flag is raised; returns whether it is.
    pub fn wait(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cancelled() {
                return self.is_cancelled();
            }
            let step = if self.other.is_some() { left.min(LOOK) } else { left };
            let raised = self.flag.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !*raised {
                drop(self.flag.1.wait_timeout(raised, step).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}
