//! A provider's records, in memory.
//!
//! Readers get shared records and never wait for a collector; a watcher gets the
//! records of the moment it began and every change after it, in order.
//!
//! ```text
//! empty ──restore──► restored ──loaded──► parity
//!   └────────────────loaded──────────────►  │  ▲ failed: noted, what is known stays readable
//!                                           └──┘
//! ```
//! A collector's pass confirms what it writes; at its end ([`crate::Writer::loaded`])
//! what was not confirmed is gone from the source and is removed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc, watch};

use crate::table::Table;
use crate::{Ask, Draft, Feed, KindSpec, ProviderSpec, Record, Verdict, View};

/// How many changes a watcher's task may leave unread; it reads while it sends.
const BACKLOG: usize = 16384;

/// What happened to a record.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is new.
    Created(Arc<Record>),
    /// It changed: old and new.
    Updated(Arc<Record>, Arc<Record>),
    /// It is gone.
    Deleted(Arc<Record>),
}

impl Change {
    /// Returns the record: the newer one where there are two.
    pub fn record(&self) -> &Arc<Record> {
        let (Self::Created(record) | Self::Updated(_, record) | Self::Deleted(record)) = self;
        record
    }
}

/// One change of the store.
#[derive(Clone, Debug)]
pub struct Event {
    /// Rises with each change of the store.
    pub serial: u64,
    /// The collection.
    pub kind: &'static str,
    /// The change.
    pub change: Change,
    /// Whether only the result of validation changed.
    pub validation: bool,
}

#[derive(Default)]
struct State {
    tables: HashMap<&'static str, Table>,
    serial: u64,
    pass: u32,
    /// Whether the next end of a pass removes what was not confirmed.
    sweeping: bool,
}

/// A provider's records.
pub struct Store {
    spec: &'static ProviderSpec,
    provider_uid: String,
    /// Differs between stores, so that versions of an earlier one mean nothing.
    nonce: u64,
    state: RwLock<State>,
    events: broadcast::Sender<Event>,
    parity: watch::Sender<bool>,
    failure: watch::Sender<Option<String>>,
    facts: RwLock<Map<String, Value>>,
    restored: RwLock<Option<SystemTime>>,
    /// Records that wait for the rules.
    pub(crate) unvalidated: watch::Sender<usize>,
    concerns: Mutex<HashMap<String, Weak<[Value]>>>,
    /// The collector, where it can be asked to read something anew.
    asks: Mutex<Option<mpsc::UnboundedSender<Ask>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("type", &self.spec.provider_type).field("uid", &self.provider_uid).finish()
    }
}

static STORES: AtomicU64 = AtomicU64::new(0);

/// One thing that a collector tells.
#[derive(Clone, Debug)]
pub enum Action {
    /// There is this, in this collection.
    Upsert(&'static str, Draft),
    /// This id of this collection is gone.
    Delete(&'static str, String),
}

impl Store {
    /// Returns an empty store without parity.
    pub fn new(spec: &'static ProviderSpec, provider_uid: &str) -> Self {
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nonce = u64::try_from(begun.as_nanos() & u128::from(u64::MAX)).unwrap_or_default();
        Self {
            spec,
            provider_uid: provider_uid.to_owned(),
            nonce: nonce ^ STORES.fetch_add(1, Ordering::Relaxed).rotate_left(48),
            state: RwLock::default(),
            events: broadcast::Sender::new(BACKLOG),
            parity: watch::Sender::new(false),
            failure: watch::Sender::new(None),
            facts: RwLock::default(),
            restored: RwLock::default(),
            unvalidated: watch::Sender::new(0),
            concerns: Mutex::default(),
            asks: Mutex::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the table of the provider's collections.
    pub fn spec(&self) -> &'static ProviderSpec {
        self.spec
    }

    /// Returns the provider's UID.
    pub fn provider_uid(&self) -> &str {
        &self.provider_uid
    }

    /// Returns a collection as its records are shown; `None` when the provider has no such collection.
    pub fn view(&self, kind: &str) -> Option<View<'_>> {
        Some(View { spec: self.spec, uid: &self.provider_uid, kind: self.spec.kind(kind)? })
    }

    /// Returns a record by its id.
    pub fn get(&self, kind: &str, id: &str) -> Option<Arc<Record>> {
        self.read().tables.get(kind)?.get(id).cloned()
    }

    /// Returns a collection's records, oldest first. The list is made once per change and shared.
    pub fn list(&self, kind: &str) -> Arc<[Arc<Record>]> {
        self.read().tables.get(kind).map(Table::list).unwrap_or_default()
    }

    /// Returns the records of a name, oldest first.
    pub fn named(&self, kind: &str, name: &str) -> Vec<Arc<Record>> {
        self.read().tables.get(kind).map(|table| table.named(name)).unwrap_or_default()
    }

    /// Returns how many records a collection has.
    pub fn count(&self, kind: &str) -> usize {
        self.read().tables.get(kind).map_or(0, Table::len)
    }

    /// Returns a collection's records with a tag of their version: equal tags mean equal records.
    pub fn versioned(&self, kind: &str) -> (Arc<[Arc<Record>]>, String) {
        let state = self.read();
        let table = state.tables.get(kind);
        let version = table.map_or(0, |table| table.version);
        (table.map(Table::list).unwrap_or_default(), format!("{:x}-{version:x}", self.nonce))
    }

    /// Returns a tag of the whole store's version.
    pub fn version(&self) -> String {
        format!("{:x}-{:x}", self.nonce, self.serial())
    }

    /// Returns a tag of a record's version.
    pub fn tag(&self, record: &Record) -> String {
        let Verdict { revision, policy_version, .. } = record.verdict;
        format!("{:x}-{:x}-{revision:x}-{policy_version:x}", self.nonce, record.revision)
    }

    /// Returns a collection's records and all changes from then on.
    pub fn watch(&self, kind: &str) -> (Arc<[Arc<Record>]>, broadcast::Receiver<Event>) {
        let state = self.read();
        (state.tables.get(kind).map(Table::list).unwrap_or_default(), self.events.subscribe())
    }

    /// Returns all changes from now on, gathered.
    pub fn feed(&self) -> Feed {
        Feed::new(self.events.subscribe())
    }

    pub(crate) fn asks(&self) -> Option<mpsc::UnboundedSender<Ask>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_asks(&self, asks: mpsc::UnboundedSender<Ask>) {
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = Some(asks);
    }

    /// Returns whether the store holds what the source holds.
    pub fn has_parity(&self) -> bool {
        *self.parity.borrow()
    }

    /// Returns a handle on which parity can be awaited.
    pub fn parity(&self) -> watch::Receiver<bool> {
        self.parity.subscribe()
    }

    /// Returns why the last collection failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Returns since when the records are known that an earlier run left and that
    /// the source has not confirmed yet; `None` once it has.
    pub fn restored(&self) -> Option<SystemTime> {
        *self.restored.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a fact about the provider that its collector told.
    pub fn fact(&self, key: &str) -> Option<Value> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn set_facts(&self, facts: Vec<(&str, Value)>) {
        let mut known = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(facts.into_iter().map(|(key, value)| (key.to_owned(), value)));
    }

    pub(crate) fn all_facts(&self) -> Map<String, Value> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a number that rises with each change.
    pub fn serial(&self) -> u64 {
        self.read().serial
    }

    /// Returns a record once the rules have seen it as it is, or as it is when the
    /// limit is over or they cannot judge it.
    pub async fn settled(&self, kind: &str, id: &str, limit: Duration) -> Option<Arc<Record>> {
        let mut waiting = self.unvalidated.subscribe();
        let seen = || self.get(kind, id).is_none_or(|record| record.verdict.revision == record.revision);
        // wait_for looks at once and after each change
        let _ = tokio::time::timeout(limit, waiting.wait_for(|left| *left == 0 || seen())).await;
        self.get(kind, id)
    }

    /// Returns how many records wait for the rules.
    pub fn unvalidated(&self) -> usize {
        *self.unvalidated.borrow()
    }

    pub(crate) fn wait_for_rules(&self, more: usize) {
        self.unvalidated.send_modify(|left| *left += more);
    }

    pub(crate) fn seen_by_rules(&self, done: usize) {
        self.unvalidated.send_modify(|left| *left = left.saturating_sub(done));
    }

    /// Takes actions in order, in one step for readers; returns the new records.
    pub(crate) fn apply(
        &self,
        actions: Vec<(&'static KindSpec, Option<Draft>, String)>,
    ) -> Vec<(&'static KindSpec, Arc<Record>)> {
        let mut fresh = Vec::new();
        let mut state = self.write();
        for (kind, draft, id) in actions {
            match draft {
                Some(draft) => fresh.extend(self.upsert(&mut state, kind.name, draft).map(|record| (kind, record))),
                None => {
                    self.delete(&mut state, kind.name, &id);
                }
            }
        }
        fresh
    }

    fn upsert(&self, state: &mut State, kind: &'static str, draft: Draft) -> Option<Arc<Record>> {
        let pass = state.pass;
        let table = state.tables.entry(kind).or_default();
        let change = match table.get(&draft.id) {
            Some(old) if old.is_current(&draft) => {
                table.confirm(&draft.id, pass);
                return None;
            }
            Some(old) => Change::Updated(old.clone(), Arc::new(old.next(draft))),
            None => Change::Created(Arc::new(Record::new(draft, 1))),
        };
        let record = change.record().clone();
        table.put(record.clone(), pass);
        self.announce(state, kind, change, false);
        Some(record)
    }

    fn delete(&self, state: &mut State, kind: &'static str, id: &str) -> bool {
        let Some(record) = state.tables.get_mut(kind).and_then(|table| table.remove(id)) else {
            return false;
        };
        self.announce(state, kind, Change::Deleted(record), false);
        true
    }

    /// Writes results of validation, except those of records that changed meanwhile.
    pub(crate) fn stamp(&self, kind: &'static str, results: Vec<(Arc<Record>, Verdict)>) {
        let mut state = self.write();
        let pass = state.pass;
        for (seen, verdict) in results {
            let Some(table) = state.tables.get_mut(kind) else { return };
            let Some(old) = table.get(&seen.id).filter(|now| now.revision == seen.revision).cloned() else { continue };
            let new = Arc::new(old.with_verdict(verdict));
            table.put(new.clone(), pass);
            self.announce(&mut state, kind, Change::Updated(old, new), true);
        }
    }

    /// Forgets which revision the rules have seen, for records whose surroundings changed.
    pub(crate) fn unstamp(&self, kind: &'static str, ids: &[String]) -> Vec<Arc<Record>> {
        let stale = |record: &Arc<Record>| (record.clone(), Verdict { revision: 0, ..record.verdict.clone() });
        let records: Vec<Arc<Record>> = {
            let state = self.read();
            state.tables.get(kind).map(|t| ids.iter().filter_map(|id| t.get(id).cloned()).collect()).unwrap_or_default()
        };
        self.stamp(kind, records.iter().map(stale).collect());
        records
    }

    /// Returns a list of concerns that all records with equal ones share.
    pub(crate) fn shared_concerns(&self, concerns: Vec<Value>) -> Arc<[Value]> {
        let key = serde_json::to_string(&concerns).unwrap_or_default();
        let mut known = self.concerns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        // as many dead entries as living ones at most
        if known.len() >= 64 && known.len().is_power_of_two() {
            known.retain(|_, list| list.strong_count() > 0);
        }
        let shared: Arc<[Value]> = concerns.into();
        known.insert(key, Arc::downgrade(&shared));
        shared
    }

    fn announce(&self, state: &mut State, kind: &'static str, change: Change, validation: bool) {
        state.serial += 1;
        let serial = state.serial;
        if let Some(table) = state.tables.get_mut(kind) {
            table.version = serial;
        }
        // without watchers there is nobody to tell
        let _ = self.events.send(Event { serial, kind, change, validation });
    }

    /// Begins a pass at whose end everything is removed that it did not confirm.
    pub(crate) fn begin_pass(&self) {
        let mut state = self.write();
        state.pass = state.pass.wrapping_add(1);
        state.sweeping = true;
    }

    /// Puts records of an earlier run into a store that has none yet; they count as not confirmed.
    pub(crate) fn restore(&self, taken: SystemTime, records: Vec<(&'static str, Record)>, facts: Map<String, Value>) {
        let mut state = self.write();
        for (kind, record) in records {
            state.serial += 1;
            let (serial, pass) = (state.serial, state.pass);
            let table = state.tables.entry(kind).or_default();
            table.put(Arc::new(record), pass);
            table.version = serial;
        }
        state.pass = state.pass.wrapping_add(1);
        state.sweeping = true;
        drop(state);
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
        *self.restored.write().unwrap_or_else(PoisonError::into_inner) = Some(taken);
    }

    /// Ends a pass: what it did not confirm goes, and the store has parity.
    pub(crate) fn end_pass(&self) {
        let mut state = self.write();
        if std::mem::take(&mut state.sweeping) {
            let pass = state.pass;
            for kind in self.spec.kinds {
                let gone = state.tables.get(kind.name).map(|table| table.unconfirmed(pass)).unwrap_or_default();
                for id in gone {
                    self.delete(&mut state, kind.name, &id);
                }
            }
        }
        drop(state);
        *self.restored.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.failure.send_replace(None);
        self.parity.send_replace(true);
    }

    pub(crate) fn note_failure(&self, reason: &str) {
        self.failure.send_replace(Some(reason.to_owned()));
    }

    /// Returns the workload document of a VM.
    ///
    /// # Errors
    /// A reference that leads nowhere, in words for users.
    pub fn workload(&self, record: &Record) -> Result<Value, String> {
        if let Some(make) = self.spec.workload {
            return make(self, record);
        }
        let Some(view) = self.spec.workloads.and_then(|kind| self.view(kind)) else {
            return Err(format!("{} has no workloads", self.spec.provider_type));
        };
        let link = self.spec.resource_link(&self.provider_uid, "workloads", &record.id);
        let mut document = Map::new();
        document.insert("selfLink".to_owned(), link.into());
        if let Value::Object(own) = view.value(record, i64::MAX) {
            document.extend(own.into_iter().filter(|(key, _)| key != "selfLink"));
        }
        Ok(Value::Object(document))
    }
}
