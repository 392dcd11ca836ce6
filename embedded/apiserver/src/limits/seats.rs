//! Seats for requests in flight. Who finds none free waits in a queue of his user's; a freed seat goes to the users in
//! turn, and no user holds more than three quarters of the seats, so that others always get one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

/// Why no seat was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many requests of the user wait already.
    QueueFull,
    /// None got free in time.
    TimeOut,
}

impl Refused {
    /// As kube-apiserver's metric `apiserver_flowcontrol_rejected_requests_total` names it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

#[derive(Default)]
struct Inner {
    taken: usize,
    by_user: HashMap<String, usize>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Seat>>>,
    /// Users with somebody waiting, the next one first.
    turns: VecDeque<String>,
}

/// The seats of one kind of request.
#[derive(Clone)]
pub struct Seats {
    inner: Arc<Mutex<Inner>>,
    total: usize,
    queue: usize,
    wait: Duration,
}

/// One taken seat; free again when dropped.
pub struct Seat {
    user: String,
    of: Option<Seats>,
}

impl Seats {
    /// `total` seats, `queue` waiting a user, each at most `wait`.
    pub fn new(total: usize, queue: usize, wait: Duration) -> Self {
        Self { inner: Arc::default(), total: total.max(1), queue, wait }
    }

    fn share(&self) -> usize {
        (self.total * 3 / 4).max(1)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    #[cfg(test)]
    fn taken(&self) -> usize {
        self.lock().taken
    }

    /// Takes a seat, waiting for one if need be.
    pub async fn take(&self, user: &str) -> Result<Seat, Refused> {
        let answer = {
            let mut inner = self.lock();
            let mine = inner.by_user.get(user).copied().unwrap_or(0);
            // somebody who waits for his share does not hold up others
            if inner.taken < self.total && mine < self.share() {
                return Ok(self.seat(&mut inner, user));
            }
            let queue = inner.waiting.entry(user.to_string()).or_default();
            queue.retain(|w| !w.is_closed());
            if queue.len() >= self.queue {
                return Err(Refused::QueueFull);
            }
            let first = queue.is_empty();
            let (sender, answer) = oneshot::channel();
            queue.push_back(sender);
            if first && !inner.turns.iter().any(|u| u == user) {
                inner.turns.push_back(user.to_string());
            }
            answer
        };
        match tokio::time::timeout(self.wait, answer).await {
            Ok(Ok(seat)) => Ok(seat),
            Ok(Err(_)) | Err(_) => Err(Refused::TimeOut),
        }
    }

    fn seat(&self, inner: &mut Inner, user: &str) -> Seat {
        inner.taken += 1;
        *inner.by_user.entry(user.to_string()).or_default() += 1;
        Seat { user: user.to_string(), of: Some(self.clone()) }
    }

    fn give_back(&self, user: &str) {
        let mut unwanted = Vec::new();
        {
            let mut inner = self.lock();
            inner.taken -= 1;
            if let Some(count) = inner.by_user.get_mut(user) {
                *count -= 1;
                if *count == 0 {
                    inner.by_user.remove(user);
                }
            }
            for _ in 0..inner.turns.len() {
                if inner.taken >= self.total {
                    break;
                }
                let Some(next) = inner.turns.pop_front() else { break };
                if inner.by_user.get(&next).copied().unwrap_or(0) >= self.share() {
                    inner.turns.push_back(next);
                    continue;
                }
                let waiter = inner.waiting.get_mut(&next).and_then(|queue| {
                    queue.retain(|w| !w.is_closed());
                    queue.pop_front()
                });
                if let Some(waiter) = waiter {
                    let seat = self.seat(&mut inner, &next);
                    // whoever went away in this instant gives it back below
                    if let Err(seat) = waiter.send(seat) {
                        unwanted.push(seat);
                    }
                }
                if inner.waiting.get(&next).is_some_and(|queue| !queue.is_empty()) {
                    inner.turns.push_back(next);
                } else {
                    inner.waiting.remove(&next);
                }
            }
        }
        drop(unwanted);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = self.of.take() {
            seats.give_back(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn one_user_never_takes_all_seats() {
        let seats = Seats::new(4, 1, LONG);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(seats.take("greedy").await.ok().unwrap());
        }
        let waits = tokio::spawn({
            let seats = seats.clone();
            async move { seats.take("greedy").await.is_ok() }
        });
        while !seats.lock().waiting.contains_key("greedy") {
            tokio::task::yield_now().await;
        }
        assert_eq!(seats.take("greedy").await.err(), Some(Refused::QueueFull));
        let other = seats.take("modest").await;
        assert!(other.is_ok());
        drop(held);
        assert!(waits.await.unwrap());
        drop(other);
        assert_eq!(seats.taken(), 0);
    }

    #[tokio::test]
    async fn freed_seats_go_to_users_in_turn() {
        let seats = Seats::new(1, 10, LONG);
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = seats.take("x").await.ok().unwrap();
        let mut tasks = Vec::new();
        for (count, user) in ["a", "a", "a", "b"].into_iter().enumerate() {
            let (waiting, log) = (seats.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let seat = waiting.take(user).await.ok().unwrap();
                log.lock().unwrap().push(user);
                drop(seat);
            }));
            while seats.lock().waiting.values().map(VecDeque::len).sum::<usize>() <= count {
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["a", "b", "a", "a"]);
        assert!(seats.lock().waiting.is_empty() && seats.lock().turns.is_empty());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused_and_forgotten() {
        let seats = Seats::new(1, 10, Duration::from_millis(1));
        let held = seats.take("a").await.ok().unwrap();
        assert_eq!(seats.take("b").await.err(), Some(Refused::TimeOut));
        drop(held);
        assert_eq!(seats.taken(), 0);
        assert!(seats.take("b").await.is_ok());
    }
}
