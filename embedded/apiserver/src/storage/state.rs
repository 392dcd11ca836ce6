//! The live objects, the indices over them, and the recent history per resource.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::object::{Event, EventKind, Key, Object};

/// History of one resource above this many bytes is shortened, whatever its length.
const HISTORY_BYTES: usize = 8 << 20;
/// History of all resources together above this many bytes is shortened, the largest first: else a dozen kinds that
/// are each within their bounds fill a hundred megabytes.
const HISTORY_TOTAL: usize = 16 << 20;
/// What an event takes beside the object's JSON, roughly.
const EVENT_BYTES: usize = 512;
/// Events that are always kept.
const HISTORY_MIN: usize = 16;

/// The history before this revision is gone; the caller has to list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest revision that can still be asked for.
    pub oldest: u64,
}

#[derive(Default)]
struct ResourceState {
    objects: BTreeMap<(String, String), Arc<Object>>,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    /// Events up to this revision are gone.
    compacted: u64,
    changed: Option<watch::Sender<u64>>,
}

impl ResourceState {
    /// Forgets the oldest events until at most so many events of so many bytes are left; returns the bytes freed.
    fn shorten(&mut self, events: usize, bytes: usize) -> usize {
        let before = self.history_bytes;
        while self.history.len() > HISTORY_MIN && (self.history.len() > events || self.history_bytes > bytes) {
            let Some(gone) = self.history.pop_front() else { break };
            self.history_bytes -= size(&gone);
            self.compacted = gone.object.revision;
        }
        // what a burst took is given back
        if self.history.capacity() > 4 * self.history.len() {
            self.history.shrink_to(2 * self.history.len());
        }
        before - self.history_bytes
    }
}

/// What the history counts for an event, in bytes.
fn size(event: &Event) -> usize {
    event.object.json.len() + EVENT_BYTES
}

/// Everything in memory. Only the writer changes it.
pub struct State {
    /// The newest revision.
    pub revision: u64,
    /// The server's own controllers.
    pub listeners: Vec<mpsc::UnboundedSender<Arc<Event>>>,
    history: usize,
    history_bytes: usize,
    /// Nothing is known of what happened up to this revision.
    floor: u64,
    resources: HashMap<Arc<str>, ResourceState>,
    uids: HashMap<String, Key>,
    dependents: HashMap<String, BTreeSet<Key>>,
}

impl State {
    /// An empty state that keeps `history` to twice as many events per resource.
    pub fn new(history: usize) -> Self {
        Self {
            revision: 0,
            listeners: Vec::new(),
            history,
            history_bytes: 0,
            floor: 0,
            resources: HashMap::new(),
            uids: HashMap::new(),
            dependents: HashMap::new(),
        }
    }

    /// The live object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        // the map's key is a pair of Strings; a borrowed pair would need a second key type for little gain
        self.resources.get(&key.resource)?.objects.get(&(key.namespace.clone(), key.name.clone())).cloned()
    }

    /// Live objects in key order.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(state) = self.resources.get(resource) else { return Vec::new() };
        match namespace {
            None => state.objects.values().cloned().collect(),
            Some(ns) => {
                let from = Bound::Included((ns.to_string(), String::new()));
                state
                    .objects
                    .range((from, Bound::Unbounded))
                    .take_while(|((n, _), _)| n == ns)
                    .map(|(_, o)| o.clone())
                    .collect()
            }
        }
    }

    /// Objects as they were at `revision`: the live ones with the later events undone.
    pub fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Object>>, Compacted> {
        self.check_compacted(resource, revision)?;
        let Some(state) = self.resources.get(resource) else { return Ok(Vec::new()) };
        if state.history.back().is_none_or(|e| e.object.revision <= revision) {
            return Ok(self.list(resource, namespace));
        }
        let mut undone: BTreeMap<(String, String), Option<Arc<Object>>> = BTreeMap::new();
        for event in state.history.iter().rev().take_while(|e| e.object.revision > revision) {
            let key = &event.object.key;
            if namespace.is_none_or(|ns| ns == key.namespace) {
                undone.insert((key.namespace.clone(), key.name.clone()), event.previous.clone());
            }
        }
        let mut objects: BTreeMap<_, _> = self
            .list(resource, namespace)
            .into_iter()
            .map(|o| ((o.key.namespace.clone(), o.key.name.clone()), o))
            .collect();
        for (key, previous) in undone {
            match previous {
                Some(object) => objects.insert(key, object),
                None => objects.remove(&key),
            };
        }
        Ok(objects.into_values().collect())
    }

    fn check_compacted(&self, resource: &str, revision: u64) -> Result<(), Compacted> {
        let oldest = self.resources.get(resource).map_or(0, |s| s.compacted).max(self.floor);
        if revision < oldest { Err(Compacted { oldest }) } else { Ok(()) }
    }

    /// The resource's events after `revision`, oldest first.
    pub fn events_after(&self, resource: &str, revision: u64) -> Result<Vec<Arc<Event>>, Compacted> {
        self.check_compacted(resource, revision)?;
        let Some(state) = self.resources.get(resource) else { return Ok(Vec::new()) };
        let from = state.history.partition_point(|e| e.object.revision <= revision);
        Ok(state.history.range(from..).cloned().collect())
    }

    /// Tells when the resource changes.
    pub fn subscribe(&mut self, resource: &str) -> watch::Receiver<u64> {
        let revision = self.revision;
        let state = self.resources.entry(resource.into()).or_default();
        state.changed.get_or_insert_with(|| watch::channel(revision).0).subscribe()
    }

    /// The object with this UID.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Object>> {
        self.get(self.uids.get(uid)?)
    }

    /// Objects that name this UID as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Arc<Object>> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }

    /// All objects that have owners.
    pub fn owned(&self) -> Vec<Arc<Object>> {
        let keys: BTreeSet<&Key> = self.dependents.values().flatten().collect();
        keys.into_iter().filter_map(|key| self.get(key)).collect()
    }

    /// Number of objects per resource.
    pub fn counts(&self) -> HashMap<Arc<str>, usize> {
        self.resources.iter().map(|(r, s)| (r.clone(), s.objects.len())).collect()
    }

    /// Takes over one durable change and tells nobody yet; returns the event.
    pub fn apply(&mut self, object: Arc<Object>, deleted: bool) -> Arc<Event> {
        self.revision = self.revision.max(object.revision);
        let key = object.key.clone();
        let pair = (key.namespace.clone(), key.name.clone());
        let state = self.resources.entry(key.resource.clone()).or_default();
        let previous = if deleted { state.objects.remove(&pair) } else { state.objects.insert(pair, object.clone()) };
        if let Some(old) = &previous {
            self.uids.remove(&old.uid);
            for owner in &old.owners {
                if let Some(set) = self.dependents.get_mut(owner) {
                    set.remove(&key);
                    if set.is_empty() {
                        self.dependents.remove(owner);
                    }
                }
            }
        }
        if !deleted {
            self.uids.insert(object.uid.clone(), key.clone());
            for owner in &object.owners {
                self.dependents.entry(owner.clone()).or_default().insert(key.clone());
            }
        }
        let kind = if deleted {
            EventKind::Deleted
        } else if previous.is_some() {
            EventKind::Modified
        } else {
            EventKind::Added
        };
        Arc::new(Event { kind, object, previous })
    }

    /// Adds the event to the history; returns the resources whose history got too long, with the revision to compact
    /// each up to.
    pub fn remember(&mut self, event: Arc<Event>) -> Vec<(Arc<str>, u64)> {
        let resource = event.object.key.resource.clone();
        let state = self.resources.entry(resource.clone()).or_default();
        let bytes = size(&event);
        state.history_bytes += bytes;
        self.history_bytes += bytes;
        state.history.push_back(event);
        let mut compactions = Vec::new();
        if state.history.len() > 2 * self.history
            || (state.history_bytes > HISTORY_BYTES && state.history.len() > HISTORY_MIN)
        {
            let freed = state.shorten(self.history, HISTORY_BYTES / 2);
            self.history_bytes -= freed;
            compactions.push((resource, state.compacted));
        }
        while self.history_bytes > HISTORY_TOTAL {
            let largest = self
                .resources
                .iter_mut()
                .filter(|(_, state)| state.history.len() > HISTORY_MIN)
                .max_by_key(|(_, state)| state.history_bytes);
            let Some((resource, state)) = largest else { break };
            let freed = state.shorten(usize::MAX, state.history_bytes / 2);
            self.history_bytes -= freed;
            compactions.push((resource.clone(), state.compacted));
        }
        compactions
    }

    /// Wakes watchers and controllers.
    pub fn publish(&mut self, events: &[Arc<Event>]) {
        for event in events {
            self.listeners.retain(|l| l.send(event.clone()).is_ok());
            if let Some(state) = self.resources.get(&event.object.key.resource)
                && let Some(changed) = &state.changed
            {
                changed.send_replace(event.object.revision);
            }
        }
    }

    /// Sets how far a resource's history was compacted, when the journal is read.
    pub fn set_compacted(&mut self, resource: &str, revision: u64) {
        self.resources.entry(resource.into()).or_default().compacted = revision;
    }

    /// Sets the revision up to which nothing is known of any resource; the next one is newer.
    pub fn set_floor(&mut self, revision: u64) {
        self.floor = revision;
        self.revision = self.revision.max(revision);
    }

    /// Whether the event at `revision` is within the kept history.
    pub fn kept(&self, resource: &str, revision: u64) -> bool {
        self.check_compacted(resource, revision.saturating_sub(1)).is_ok()
    }
}
