//! A provider's records, in memory.
//!
//! Readers get shared records and never wait for a collector; a watcher gets the
//! records of the moment it began and every change after it, in order. A watcher
//! that falls too far behind is told so and begins again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::{Draft, ProviderSpec, Record, Rules};

/// How many changes a watcher may fall behind.
const BACKLOG: usize = 4096;

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
struct Table {
    rows: BTreeMap<u64, Arc<Record>>,
    by_id: HashMap<String, u64>,
}

#[derive(Default)]
struct State {
    tables: HashMap<&'static str, Table>,
    next_row: u64,
    serial: u64,
}

/// A provider's records.
pub struct Store {
    spec: &'static ProviderSpec,
    provider_uid: String,
    state: RwLock<State>,
    events: broadcast::Sender<Event>,
    parity: watch::Sender<bool>,
    failure: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("type", &self.spec.provider_type).field("uid", &self.provider_uid).finish()
    }
}

impl Store {
    /// Returns an empty store without parity.
    pub fn new(spec: &'static ProviderSpec, provider_uid: &str) -> Self {
        Self {
            spec,
            provider_uid: provider_uid.to_owned(),
            state: RwLock::default(),
            events: broadcast::Sender::new(BACKLOG),
            parity: watch::Sender::new(false),
            failure: watch::Sender::new(None),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a record by its id.
    pub fn get(&self, kind: &str, id: &str) -> Option<Arc<Record>> {
        let state = self.read();
        let table = state.tables.get(kind)?;
        table.by_id.get(id).and_then(|row| table.rows.get(row)).cloned()
    }

    /// Returns a collection's records, oldest first.
    pub fn list(&self, kind: &str) -> Vec<Arc<Record>> {
        self.read().tables.get(kind).map(|t| t.rows.values().cloned().collect()).unwrap_or_default()
    }

    /// Returns how many records a collection has.
    pub fn count(&self, kind: &str) -> usize {
        self.read().tables.get(kind).map_or(0, |t| t.rows.len())
    }

    /// Returns a collection's records and all changes from then on.
    pub fn watch(&self, kind: &str) -> (Vec<Arc<Record>>, broadcast::Receiver<Event>) {
        let state = self.read();
        let records = state.tables.get(kind).map(|t| t.rows.values().cloned().collect()).unwrap_or_default();
        (records, self.events.subscribe())
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

    fn upsert(&self, kind: &'static str, draft: Draft) -> Arc<Record> {
        let mut state = self.write();
        let State { tables, next_row, .. } = &mut *state;
        let table = tables.entry(kind).or_default();
        let row = *table.by_id.entry(draft.id.clone()).or_insert_with(|| {
            *next_row += 1;
            *next_row
        });
        let change = match table.rows.get(&row) {
            Some(old) if old.is_current(&draft) => return old.clone(),
            Some(old) => {
                let mut draft = draft;
                keep_validation(&old.json, &mut draft.json);
                Change::Updated(old.clone(), Arc::new(Record::new(draft, old.revision + 1)))
            }
            None => Change::Created(Arc::new(Record::new(draft, 1))),
        };
        let (Change::Created(record) | Change::Updated(_, record) | Change::Deleted(record)) = &change;
        let record = record.clone();
        table.rows.insert(row, record.clone());
        self.announce(&mut state, kind, change, false);
        record
    }

    fn delete(&self, kind: &'static str, id: &str) -> bool {
        let mut state = self.write();
        let Some(table) = state.tables.get_mut(kind) else {
            return false;
        };
        let Some(record) = table.by_id.remove(id).and_then(|row| table.rows.remove(&row)) else {
            return false;
        };
        self.announce(&mut state, kind, Change::Deleted(record), false);
        true
    }

    /// Writes the result of validation, unless the record changed meanwhile.
    fn stamp(&self, kind: &'static str, seen: &Record, policy_version: i64, concerns: Vec<Value>) {
        let mut state = self.write();
        let Some(table) = state.tables.get_mut(kind) else {
            return;
        };
        let Some(row) = table.by_id.get(&seen.id).copied() else {
            return;
        };
        let Some(old) = table.rows.get(&row).filter(|r| r.revision == seen.revision).cloned() else {
            return;
        };
        let new = Arc::new(old.validated(policy_version, concerns));
        table.rows.insert(row, new.clone());
        self.announce(&mut state, kind, Change::Updated(old, new), true);
    }

    fn announce(&self, state: &mut State, kind: &'static str, change: Change, validation: bool) {
        state.serial += 1;
        // without watchers there is nobody to tell
        let _ = self.events.send(Event { serial: state.serial, kind, change, validation });
    }

    /// Returns the workload document of a VM: the VM under its workloads link.
    pub fn workload(&self, record: &Record) -> Value {
        let link = self.spec.resource_link(&self.provider_uid, "workloads", &record.id);
        let mut document = serde_json::Map::new();
        document.insert("selfLink".to_owned(), link.into());
        for (key, value) in record.json.as_object().into_iter().flatten().filter(|(k, _)| *k != "selfLink") {
            document.insert(key.clone(), value.clone());
        }
        Value::Object(document)
    }

    /// Evaluates the rules on all records whose result is missing or of another version.
    pub(crate) fn validate(&self, rules: &dyn Rules) {
        let version = rules.version(self.spec.provider_type);
        for kind in self.spec.kinds.iter().filter(|k| k.validated) {
            for record in self.list(kind.name) {
                self.validate_one(rules, version, kind.name, &record);
            }
        }
    }

    fn validate_one(&self, rules: &dyn Rules, version: i64, kind: &'static str, record: &Record) {
        if record.is_validated(version) {
            return;
        }
        match rules.concerns(self.spec.provider_type, &self.workload(record)) {
            Ok(concerns) => self.stamp(kind, record, version, concerns),
            Err(error) => tracing::warn!(vm = record.name, error, "the VM stays unvalidated"),
        }
    }
}

/// Until the new revision is validated, the last result stays visible.
fn keep_validation(old: &Value, new: &mut Value) {
    for key in crate::record::VALIDATION_KEYS {
        if let (Some(value), Some(object)) = (old.get(key), new.as_object_mut()) {
            object.insert(key.to_owned(), value.clone());
        }
    }
}

/// A collector's end of a store; one per store.
#[derive(Clone)]
pub struct Writer {
    store: Arc<Store>,
    rules: Option<Arc<dyn Rules>>,
}

impl Writer {
    /// Returns a writer whose VMs are validated by the rules, when there are any.
    pub fn new(store: Arc<Store>, rules: Option<Arc<dyn Rules>>) -> Self {
        Self { store, rules }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the provider's UID, for links.
    pub fn provider_uid(&self) -> &str {
        &self.store.provider_uid
    }

    /// Adds or changes a record. A draft that says nothing new changes nothing.
    ///
    /// Kinds that are not in the provider's table are refused with a log line.
    pub fn upsert(&self, kind: &str, draft: Draft) {
        let Some(spec) = self.store.spec.kind(kind) else {
            tracing::error!(kind, "the provider's table has no such collection");
            return;
        };
        let record = self.store.upsert(spec.name, draft);
        if let (true, Some(rules)) = (spec.validated, &self.rules) {
            let version = rules.version(self.store.spec.provider_type);
            self.store.validate_one(rules.as_ref(), version, spec.name, &record);
        }
    }

    /// Removes a record; returns whether it was there.
    pub fn delete(&self, kind: &str, id: &str) -> bool {
        self.store.spec.kind(kind).is_some_and(|spec| self.store.delete(spec.name, id))
    }

    /// Makes a collection equal to the drafts: what is not among them goes.
    pub fn replace(&self, kind: &str, drafts: Vec<Draft>) {
        let kept: HashSet<String> = drafts.iter().map(|d| d.id.clone()).collect();
        for draft in drafts {
            self.upsert(kind, draft);
        }
        for record in self.store.list(kind) {
            if !kept.contains(&record.id) {
                self.delete(kind, &record.id);
            }
        }
    }

    /// Says that the store holds what the source holds. A later failure does not
    /// take that back: what is known stays readable.
    pub fn loaded(&self) {
        self.store.failure.send_replace(None);
        self.store.parity.send_replace(true);
    }

    /// Notes why the source could not be read.
    pub fn failed(&self, reason: &str) {
        self.store.failure.send_replace(Some(reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KindSpec, ProviderSpec};
    use serde_json::json;

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "test",
        kinds: &[
            KindSpec { name: "vms", validated: true, base: &["id", "name"], ..KindSpec::PLAIN },
            KindSpec { name: "networks", ..KindSpec::PLAIN },
        ],
        workloads: Some("vms"),
        blanks: &[],
        counts: &[],
    };

    struct Named;
    impl Rules for Named {
        fn version(&self, _: &str) -> i64 {
            7
        }
        fn concerns(&self, _: &str, workload: &Value) -> Result<Vec<Value>, String> {
            match workload["name"].as_str() {
                Some("bad") => Err("no".to_owned()),
                name => Ok(vec![json!({"id": name})]),
            }
        }
    }

    fn draft(id: &str, name: &str) -> Draft {
        let json = json!({"id": id, "name": name, "revisionValidated": 0, "policyVersion": 0, "concerns": []});
        Draft { id: id.into(), name: name.into(), json, ..Draft::default() }
    }

    fn writer() -> Writer {
        Writer::new(Arc::new(Store::new(&SPEC, "uid")), Some(Arc::new(Named)))
    }

    #[test]
    fn a_change_raises_the_revision_and_validation_does_not() {
        let writer = writer();
        writer.upsert("vms", draft("1", "a"));
        writer.upsert("vms", draft("1", "a"));
        let record = writer.store().get("vms", "1").expect("stored");
        assert_eq!((record.revision, record.is_validated(7)), (1, true));
        assert_eq!(record.json["concerns"], json!([{"id": "a"}]));

        writer.upsert("vms", draft("1", "bad"));
        let record = writer.store().get("vms", "1").expect("stored");
        assert_eq!((record.revision, record.is_validated(7)), (2, false));
        assert_eq!(record.json["concerns"], json!([{"id": "a"}]), "the last result stays visible");
    }

    #[test]
    fn replacing_a_collection_removes_what_is_gone() {
        let writer = writer();
        writer.replace("networks", vec![draft("1", "a"), draft("2", "b")]);
        writer.replace("networks", vec![draft("2", "b"), draft("3", "c")]);
        let ids: Vec<String> = writer.store().list("networks").iter().map(|r| r.id.clone()).collect();
        assert_eq!(ids, ["2", "3"]);
    }

    #[test]
    fn a_watcher_gets_the_records_and_then_each_change_once() {
        let writer = writer();
        writer.upsert("networks", draft("1", "a"));
        let (records, mut events) = writer.store().watch("networks");
        assert_eq!(records.len(), 1);
        writer.upsert("networks", draft("1", "b"));
        writer.upsert("networks", draft("1", "b"));
        writer.delete("networks", "1");
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            seen.push(match event.change {
                Change::Created(r) => format!("created {}", r.name),
                Change::Updated(old, new) => format!("updated {} {}", old.name, new.name),
                Change::Deleted(r) => format!("deleted {}", r.name),
            });
        }
        assert_eq!(seen, ["updated a b", "deleted b"]);
    }
}
