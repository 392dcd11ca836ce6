//! A short queue between the reader of a stream and the workers; whoever waits looks whether the copy was stopped.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a wait looks whether the copy was stopped: the other side may hang.
const LOOK: Duration = Duration::from_millis(100);

/// A queue of at most so many tasks.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    most: usize,
}

struct State<T> {
    tasks: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// Returns an empty queue.
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::new(State { tasks: VecDeque::new(), closed: false }), changed: Condvar::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and puts a task in; returns false where `stopped` says so.
    pub(super) fn push(&self, task: T, stopped: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        while state.tasks.len() >= self.most {
            if stopped() {
                return false;
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.tasks.push_back(task);
        self.changed.notify_all();
        true
    }

    /// Waits for a task; none after the last one, or where `stopped` says so.
    pub(super) fn pop(&self, stopped: impl Fn() -> bool) -> Option<T> {
        let mut state = self.lock();
        loop {
            if stopped() {
                return None;
            }
            if let Some(task) = state.tasks.pop_front() {
                self.changed.notify_all();
                return Some(task);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that no more tasks come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}
