//! What is remembered of a plan between two passes. Losing it costs time, never correctness.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_api::{Plan, Ref};
use kube::ResourceExt;

use super::sight::Sight;

/// For how long VMs that were read at the source are what a start may rely on.
const FRESH_FOR: Duration = Duration::from_secs(20);
/// Progress alone is written no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What is remembered of a plan.
#[derive(Default)]
pub struct PlanMemory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    written: Option<Instant>,
    latest: Option<Arc<Plan>>,
    /// What the checks saw of the VMs last.
    seen: Arc<[(Ref, Sight)]>,
    /// The Migration before whose start the VMs were read at the source, and when.
    fresh: Option<(String, Instant)>,
}

impl PlanMemory {
    /// Returns the newer of the cached object and of what we wrote last: the cache may lag behind our own write.
    pub fn newest(&self, cached: Arc<Plan>) -> Arc<Plan> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.latest.take() {
            Some(latest) if latest.uid() == cached.uid() && version(&latest) > version(&cached) => {
                inner.latest = Some(latest.clone());
                latest
            }
            _ => cached,
        }
    }

    /// Notes what was written.
    pub fn wrote(&self, plan: Plan) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.written = Some(Instant::now());
        inner.latest = Some(Arc::new(plan));
    }

    /// Notes that a status was written that is not the plan's.
    pub fn wrote_something(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).written = Some(Instant::now());
    }

    /// Forgets our own copy: it was refused as stale.
    pub fn distrust(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).latest = None;
    }

    /// Notes what the checks saw of the VMs.
    pub fn saw(&self, seen: Vec<(Ref, Sight)>) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).seen = seen.into();
    }

    /// Returns what the checks saw of the VMs last.
    pub fn seen(&self) -> Arc<[(Ref, Sight)]> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).seen.clone()
    }

    /// Notes that the VMs were read at the source before the start of this Migration.
    pub fn note_fresh(&self, migration_uid: &str) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).fresh =
            Some((migration_uid.to_owned(), Instant::now()));
    }

    /// Takes the note back; returns whether the VMs were read for this Migration just before.
    pub fn take_fresh(&self, migration_uid: &str) -> bool {
        let fresh = self.inner.lock().unwrap_or_else(PoisonError::into_inner).fresh.take();
        fresh.is_some_and(|(uid, at)| uid == migration_uid && at.elapsed() < FRESH_FOR)
    }

    /// Returns how long a write of mere progress has to wait; `None` when it may be done now.
    pub fn progress_waits(&self) -> Option<Duration> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = inner.written?.elapsed();
        PROGRESS_EVERY.checked_sub(elapsed).filter(|left| !left.is_zero())
    }
}

/// Resource versions rise; a server that does otherwise makes the cache win, which is only slower.
fn version(plan: &Plan) -> Option<u64> {
    plan.resource_version()?.parse().ok()
}
