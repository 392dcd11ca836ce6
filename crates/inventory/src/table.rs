//! One collection in memory: records in the order in which they came, found by id and by name.
//!
//! The indexes hold positions only (5 bytes an entry), so that ids and names are
//! stored once, in the record.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;

use crate::Record;

#[derive(Clone)]
struct Slot {
    record: Arc<Record>,
    /// The collector's pass that confirmed it last.
    pass: u32,
}

#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Option<Slot>>,
    ids: HashTable<u32>,
    names: HashTable<u32>,
    hasher: RandomState,
    listed: OnceLock<Arc<[Arc<Record>]>>,
    /// The store's serial at the last change.
    pub version: u64,
}

fn text(slots: &[Option<Slot>], at: u32) -> Option<&Arc<Record>> {
    slots.get(at as usize)?.as_ref().map(|slot| &slot.record)
}

impl Table {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    fn position(&self, id: &str) -> Option<u32> {
        let equal = |at: &u32| text(&self.slots, *at).is_some_and(|record| *record.id == *id);
        self.ids.find(self.hasher.hash_one(id), equal).copied()
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Record>> {
        text(&self.slots, self.position(id)?)
    }

    /// All of a name, in the order in which they came.
    pub fn named(&self, name: &str) -> Vec<Arc<Record>> {
        let mut positions: Vec<u32> = self.names.iter_hash(self.hasher.hash_one(name)).copied().collect();
        positions.sort_unstable();
        let records = positions.into_iter().filter_map(|at| text(&self.slots, at));
        records.filter(|record| *record.name == *name).cloned().collect()
    }

    /// All, in the order in which they came; made once per change.
    pub fn list(&self) -> Arc<[Arc<Record>]> {
        self.listed.get_or_init(|| self.slots.iter().flatten().map(|slot| slot.record.clone()).collect()).clone()
    }

    /// Confirms a record that did not change.
    pub fn confirm(&mut self, id: &str, pass: u32) {
        if let Some(at) = self.position(id)
            && let Some(Some(slot)) = self.slots.get_mut(at as usize)
        {
            slot.pass = pass;
        }
    }

    /// Puts a record in the place of the one of its id, or at the end.
    pub fn put(&mut self, record: Arc<Record>, pass: u32) {
        self.listed.take();
        if let Some(at) = self.position(&record.id) {
            let renamed = text(&self.slots, at).is_some_and(|old| *old.name != *record.name);
            if renamed {
                self.forget_name(at);
            }
            let name = record.name.clone();
            if let Some(slot) = self.slots.get_mut(at as usize) {
                *slot = Some(Slot { record, pass });
            }
            if renamed {
                self.add_name(&name, at);
            }
            return;
        }
        // 2^32 records are more than the memory of any machine holds
        let at = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let (id, name) = (record.id.clone(), record.name.clone());
        self.slots.push(Some(Slot { record, pass }));
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |at: &u32| text(slots, *at).map_or(0, |record| hasher.hash_one(&*record.id));
        self.ids.insert_unique(hasher.hash_one(&*id), at, rehash);
        self.add_name(&name, at);
    }

    fn add_name(&mut self, name: &str, at: u32) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |at: &u32| text(slots, *at).map_or(0, |record| hasher.hash_one(&*record.name));
        self.names.insert_unique(hasher.hash_one(name), at, rehash);
    }

    fn forget_name(&mut self, at: u32) {
        if let Some(record) = text(&self.slots, at)
            && let Ok(entry) = self.names.find_entry(self.hasher.hash_one(&*record.name), |found| *found == at)
        {
            entry.remove();
        }
    }

    pub fn remove(&mut self, id: &str) -> Option<Arc<Record>> {
        let at = self.position(id)?;
        self.listed.take();
        self.forget_name(at);
        if let Ok(entry) = self.ids.find_entry(self.hasher.hash_one(id), |found| *found == at) {
            entry.remove();
        }
        let slot = self.slots.get_mut(at as usize)?.take()?;
        if self.slots.len() > 64 && self.len() * 2 < self.slots.len() {
            self.compact();
        }
        Some(slot.record)
    }

    /// Closes the gaps that removed records left.
    fn compact(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        self.ids.clear();
        self.names.clear();
        for slot in slots.into_iter().flatten() {
            self.put(slot.record, slot.pass);
        }
    }

    /// Ids of all that were not confirmed in a pass.
    pub fn unconfirmed(&self, pass: u32) -> Vec<Arc<str>> {
        self.slots.iter().flatten().filter(|slot| slot.pass != pass).map(|slot| slot.record.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draft;

    fn record(id: &str, name: &str) -> Arc<Record> {
        Arc::new(Record::new(Draft { id: id.into(), name: name.into(), ..Draft::default() }, 1))
    }

    #[test]
    fn it_is_a_map_that_keeps_its_order() {
        let mut table = Table::default();
        let mut model: Vec<(String, String)> = Vec::new();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (id, name) = ((state >> 33) % 300, (state >> 45) % 40);
            let (id, name) = (id.to_string(), name.to_string());
            let known = model.iter().position(|(known, _)| *known == id);
            // removes often enough that gaps are closed now and then
            match ((state >> 60) < 9, known) {
                (true, Some(at)) => {
                    model.remove(at);
                    assert_eq!(table.remove(&id).map(|r| r.id.to_string()), Some(id));
                }
                (true, None) => assert!(table.remove(&id).is_none()),
                (false, Some(at)) => {
                    model[at].1.clone_from(&name);
                    table.put(record(&id, &name), 0);
                }
                (false, None) => {
                    model.push((id.clone(), name.clone()));
                    table.put(record(&id, &name), 0);
                }
            }
        }
        let listed: Vec<_> = table.list().iter().map(|r| (r.id.to_string(), r.name.to_string())).collect();
        assert_eq!(listed, model);
        assert_eq!(table.len(), model.len());
        for name in 0..40 {
            let name = name.to_string();
            let ids: Vec<String> = table.named(&name).iter().map(|r| r.id.to_string()).collect();
            let expected: Vec<String> = model.iter().filter(|(_, n)| *n == name).map(|(id, _)| id.clone()).collect();
            assert_eq!(ids, expected, "{name}");
        }
        for (id, name) in &model {
            assert_eq!(table.get(id).map(|r| r.name.to_string()).as_ref(), Some(name));
        }
    }
}
