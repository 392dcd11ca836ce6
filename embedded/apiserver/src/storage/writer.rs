//! The one thread that writes: takes what has come in meanwhile as one batch, checks each request against the state
//! as the requests before it leave it, makes the batch durable, then shows it to readers and answers.

use std::collections::HashMap;
use std::sync::{Arc, RwLock, mpsc::Receiver};

use serde_json::Value;
use tokio::sync::oneshot;

use super::WriteError;
use super::journal::{Journal, Row};
use super::object::{Key, Object};
use super::state::State;

/// Most requests in one transaction.
const BATCH: usize = 512;

/// What the caller saw.
pub enum Expect {
    /// No such object.
    Absent,
    /// The object at this revision.
    Revision(u64),
}

/// What to write.
pub enum Change {
    /// The new object.
    Put(Value),
    /// Remove it; watchers see this last state.
    Delete(Value),
}

/// One request with its way back.
pub struct Request {
    /// Which object.
    pub key: Key,
    /// Under which condition.
    pub expect: Expect,
    /// What to do.
    pub change: Change,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Arc<Object>, WriteError>>,
}

/// Serves requests until all senders are gone.
pub fn run(mut journal: Journal, state: &Arc<RwLock<State>>, inbox: &Receiver<Request>) {
    while let Ok(first) = inbox.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = inbox.try_recv()
        {
            batch.push(next);
        }
        write_batch(&mut journal, state, batch);
    }
}

type Answer = (oneshot::Sender<Result<Arc<Object>, WriteError>>, Result<Arc<Object>, WriteError>);

fn write_batch(journal: &mut Journal, state: &Arc<RwLock<State>>, batch: Vec<Request>) {
    let mut rows: Vec<Row> = Vec::with_capacity(batch.len());
    let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
    {
        let state = state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        // revisions that this batch gave: None once deleted
        let mut overlay: HashMap<Key, Option<u64>> = HashMap::new();
        let mut revision = state.revision;
        for Request { key, expect, change, reply } in batch {
            let current = match overlay.get(&key) {
                Some(revision) => *revision,
                None => state.get(&key).map(|o| o.revision),
            };
            let refused = match (&expect, current) {
                (Expect::Absent, Some(_)) => Some(WriteError::Exists),
                (Expect::Revision(_), None) => Some(WriteError::NotFound),
                (Expect::Revision(seen), Some(now)) if *seen != now => Some(WriteError::Conflict),
                (Expect::Absent, None) | (Expect::Revision(_), Some(_)) => None,
            };
            if let Some(error) = refused {
                answers.push((reply, Err(error)));
                continue;
            }
            revision += 1;
            let (value, deleted) = match change {
                Change::Put(value) => (value, false),
                Change::Delete(value) => (value, true),
            };
            overlay.insert(key.clone(), (!deleted).then_some(revision));
            let object = Arc::new(Object::encode(key, revision, value));
            rows.push(Row { object: object.clone(), deleted });
            answers.push((reply, Ok(object)));
        }
    }
    if !rows.is_empty()
        && let Err(error) = journal.append(&rows)
    {
        tracing::error!(%error, "cannot write to the store");
        let failed = WriteError::Failed(error.to_string());
        for (reply, answer) in answers {
            // the caller may have gone away; nothing to tell then
            let _ = reply.send(answer.and(Err(failed.clone())));
        }
        return;
    }
    let compactions = publish(state, &rows);
    for (reply, answer) in answers {
        let _ = reply.send(answer);
    }
    for (resource, revision) in compactions {
        if let Err(error) = journal.compact(&resource, revision) {
            tracing::warn!(%error, %resource, "cannot compact the store; trying again later");
        }
    }
}

fn publish(state: &Arc<RwLock<State>>, rows: &[Row]) -> HashMap<Arc<str>, u64> {
    let mut compactions = HashMap::new();
    let mut state = state.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let event = state.apply(row.object.clone(), row.deleted);
        compactions.extend(state.remember(event.clone()));
        events.push(event);
    }
    state.publish(&events);
    compactions
}
