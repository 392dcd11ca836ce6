//! What keeps one client from starving the others: seats for requests in flight, shared fairly between users, a number
//! of open watches a user, and clients that do not read being cut off.

mod patience;
mod seats;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use patience::Patient;
pub use seats::{Refused, Seat, Seats};

/// Bounds of what clients may take. The defaults are kube-apiserver's where it has such a bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests in flight that change nothing.
    pub read_only: usize,
    /// Requests in flight that change something.
    pub mutating: usize,
    /// Requests of one user that wait for a seat; more get 429.
    pub queue: usize,
    /// Longest wait for a seat.
    pub wait: Duration,
    /// Open watches, log followers and tunnels of one user.
    pub long_running: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Longest time for a client to send a request's head, and to send its body.
    pub receive: Duration,
    /// Longest time that a client's connection may take nothing of what is ready for it.
    pub stalled: Duration,
    /// Open connections.
    pub connections: usize,
    /// Streams of one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            read_only: 400,
            mutating: 200,
            queue: 100,
            wait: Duration::from_secs(15),
            long_running: 2000,
            body: 3 << 20,
            receive: Duration::from_secs(60),
            stalled: Duration::from_secs(60),
            connections: 4096,
            streams: 250,
        }
    }
}

/// Counts what is open for each user.
#[derive(Clone, Default)]
pub struct PerUser {
    open: Arc<Mutex<HashMap<String, usize>>>,
}

/// One open thing of a user; ends when dropped.
pub struct Open {
    user: String,
    of: PerUser,
}

impl PerUser {
    /// Counts one more, unless the user has `most` already.
    pub fn open(&self, user: &str, most: usize) -> Option<Open> {
        let mut open = self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = open.entry(user.to_string()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Open { user: user.to_string(), of: self.clone() })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.of.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_open_so_many_and_others_as_many() {
        let all = PerUser::default();
        let first = all.open("a", 2);
        let second = all.open("a", 2);
        assert!(first.is_some() && second.is_some() && all.open("a", 2).is_none());
        assert!(all.open("b", 2).is_some());
        drop(first);
        assert!(all.open("a", 2).is_some());
    }
}
