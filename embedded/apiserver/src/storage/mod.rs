//! The durable store: every object of every resource, one global revision, and the recent history for watches.
//!
//! ```text
//!  create/replace/delete ──► writer thread ──► SQLite (one transaction per batch, fsync) ──► State in memory ──► watchers
//!  get/list/watch ───────────────────────────────────────────────────────────────────────────┘
//! ```
//! Reads never touch the disk: the database is the journal. A write is acknowledged only after its transaction is
//! durable. Revisions only grow, across restarts too, because the newest row of the journal is never compacted away.

mod journal;
mod lock;
mod object;
pub mod snapshot;
mod state;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

pub use object::{Event, EventKind, Key, Object};
pub use state::Compacted;
use state::State;
use writer::{Change, Expect, Request};

/// Why a write was not made.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum WriteError {
    /// The name is taken.
    #[error("the object exists already")]
    Exists,
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
    /// The object is at another revision than the caller saw.
    #[error("the object was changed by somebody else")]
    Conflict,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The database refused.
    #[error("{0}")]
    Failed(String),
}

/// Handle to the store; cheap to share.
pub struct Store {
    state: Arc<RwLock<State>>,
    requests: std::sync::Mutex<Option<std::sync::mpsc::Sender<Request>>>,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
    lock: std::sync::Mutex<Option<std::fs::File>>,
}

/// The database's name in the data directory.
pub const FILE: &str = "store.db";

impl Store {
    /// Opens or creates the store in `path`, keeping about `history` events per resource for watches.
    pub fn open(path: &Path, history: usize) -> anyhow::Result<Arc<Self>> {
        let lock = lock::take(path)?;
        let (journal, state) = journal::Journal::open(path, history)?;
        let state = Arc::new(RwLock::new(state));
        let (requests, inbox) = std::sync::mpsc::channel();
        let shared = state.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(journal, &shared, &inbox))?;
        Ok(Arc::new(Self {
            state,
            requests: Some(requests).into(),
            writer: Some(thread).into(),
            lock: Some(lock).into(),
        }))
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        // a poisoned lock only means that a reader panicked: the state is changed by the writer alone, in one step
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        look(&state)
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.read(|s| s.revision)
    }

    /// The live object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.read(|s| s.get(key))
    }

    /// Live objects in key order (all namespaces, or one), with the revision at which this is the truth.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> (Vec<Arc<Object>>, u64) {
        self.read(|s| (s.list(resource, namespace), s.revision))
    }

    /// The objects as they were at `revision`.
    pub fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Object>>, Compacted> {
        self.read(|s| s.list_at(resource, namespace, revision))
    }

    /// What happened to the resource after `revision`, and the revision up to which this is complete.
    pub fn events_after(&self, resource: &str, revision: u64) -> Result<(Vec<Arc<Event>>, u64), Compacted> {
        self.read(|s| s.events_after(resource, revision).map(|events| (events, s.revision)))
    }

    /// Objects and subscription taken at one instant: nothing is lost between them.
    pub fn list_and_watch(
        &self,
        resource: &str,
        namespace: Option<&str>,
    ) -> (Vec<Arc<Object>>, u64, watch::Receiver<u64>) {
        let receiver = self.subscribe(resource);
        let (objects, revision) = self.list(resource, namespace);
        (objects, revision, receiver)
    }

    /// Tells when the resource changes.
    pub fn subscribe(&self, resource: &str) -> watch::Receiver<u64> {
        let mut state = self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.subscribe(resource)
    }

    /// Every event of every resource from now on, for the server's own controllers.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Arc<Event>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.listeners.push(sender);
        receiver
    }

    /// The object with this UID.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Object>> {
        self.read(|s| s.by_uid(uid))
    }

    /// Objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Arc<Object>> {
        self.read(|s| s.dependents(uid))
    }

    /// All objects that have owners.
    pub fn owned(&self) -> Vec<Arc<Object>> {
        self.read(State::owned)
    }

    /// Number of objects per resource.
    pub fn counts(&self) -> HashMap<Arc<str>, usize> {
        self.read(State::counts)
    }

    async fn write(&self, key: Key, expect: Expect, change: Change) -> Result<Arc<Object>, WriteError> {
        let (reply, answer) = oneshot::channel();
        {
            let guard = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let Some(requests) = guard.as_ref() else { return Err(WriteError::Closed) };
            requests.send(Request { key, expect, change, reply }).map_err(|_| WriteError::Closed)?;
        }
        answer.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Stores a new object.
    pub async fn create(&self, key: Key, value: Value) -> Result<Arc<Object>, WriteError> {
        self.write(key, Expect::Absent, Change::Put(value)).await
    }

    /// Replaces the object that is at `revision`.
    pub async fn replace(&self, key: Key, revision: u64, value: Value) -> Result<Arc<Object>, WriteError> {
        self.write(key, Expect::Revision(revision), Change::Put(value)).await
    }

    /// Deletes the object that is at `revision`; `last` is what watchers are shown.
    pub async fn delete(&self, key: Key, revision: u64, last: Value) -> Result<Arc<Object>, WriteError> {
        self.write(key, Expect::Revision(revision), Change::Delete(last)).await
    }

    /// Whether writes are not taken any more.
    pub fn is_closed(&self) -> bool {
        self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_none()
    }

    /// Waits for accepted writes and closes the database. Later writes fail with [`WriteError::Closed`].
    pub fn close(&self) {
        self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer ended with a panic");
        }
        self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn;
