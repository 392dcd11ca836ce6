//! The records of one collection, shared with the store.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use forklift_inventory::{Native, Resource, Store};

use super::model::{Partial, Ref, Tracked};
use super::vim::{ObjectUpdate, UpdateKind};

/// Records of one type by their ids.
pub(super) struct Table<T> {
    rows: HashMap<Arc<str>, Row<T>>,
}

/// A record with what is known of its telling.
pub(super) struct Row<T> {
    /// The record as it is now.
    pub it: Arc<T>,
    /// The record as the store was given it.
    published: Option<Arc<T>>,
    /// The last full set that told it.
    pass: u32,
    touched: bool,
}

/// Records of a type that does not matter.
pub(super) trait Rows {
    /// Takes what is told of a record, which is made where there is none. Returns what could not be applied.
    fn apply(&mut self, id: &Arc<str>, update: &ObjectUpdate, pass: u32) -> Vec<Partial>;

    /// Takes records from a store, as an earlier run left them.
    fn restore(&mut self, store: &Store, kind: &str);

    /// Removes a record; returns whether it was there.
    fn remove(&mut self, id: &str) -> bool;

    /// Returns whether there is such a record.
    fn contains(&self, id: &str) -> bool;

    /// Returns the records that this full set did not tell.
    fn not_in(&self, pass: u32) -> Vec<Arc<str>>;

    /// Marks a record as one that the store may not have; returns whether it was not marked before.
    fn touch(&mut self, id: &str) -> bool;

    /// Takes a record for told; returns whether it differs from what was told before.
    fn told(&mut self, id: &str) -> bool;

    /// Returns name and parent of a record.
    fn place(&self, id: &str) -> Option<(&str, &Ref)>;

    /// Returns the records whose parents are such.
    fn below(&self, is_such: &dyn Fn(&Ref) -> bool) -> Vec<Arc<str>>;

    /// Returns a record as the store takes it.
    fn resource(&self, id: &str) -> Option<Arc<dyn Resource>>;
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// Returns a record.
    pub fn get(&self, id: &str) -> Option<&Row<T>> {
        self.rows.get(id)
    }

    /// Returns a record to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Row<T>> {
        self.rows.get_mut(id)
    }

    /// Returns all records.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Row<T>)> {
        self.rows.iter()
    }
}

impl<T: Tracked + Native> Rows for Table<T> {
    fn apply(&mut self, id: &Arc<str>, update: &ObjectUpdate, pass: u32) -> Vec<Partial> {
        let new = || Row { it: Arc::new(T::of_type(&update.object.kind)), published: None, pass, touched: false };
        let row = self.rows.entry(id.clone()).or_insert_with(new);
        row.pass = pass;
        if update.kind == UpdateKind::Enter {
            row.it = Arc::new(row.it.entered());
        }
        let it = Arc::make_mut(&mut row.it);
        update.changes.iter().filter_map(|(path, value)| it.apply(path, value.as_ref()).err()).collect()
    }

    fn restore(&mut self, store: &Store, kind: &str) {
        for record in store.list(kind).iter() {
            let known: Arc<dyn Any + Send + Sync> = record.resource().clone();
            if let Ok(it) = known.downcast::<T>() {
                self.rows.insert(record.id.clone(), Row { it, published: None, pass: 0, touched: false });
            }
        }
    }

    fn remove(&mut self, id: &str) -> bool {
        self.rows.remove(id).is_some()
    }

    fn contains(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    fn not_in(&self, pass: u32) -> Vec<Arc<str>> {
        self.rows.iter().filter(|(_, row)| row.pass != pass).map(|(id, _)| id.clone()).collect()
    }

    fn touch(&mut self, id: &str) -> bool {
        self.rows.get_mut(id).is_some_and(|row| !std::mem::replace(&mut row.touched, true))
    }

    fn told(&mut self, id: &str) -> bool {
        let Some(row) = self.rows.get_mut(id) else { return false };
        row.touched = false;
        let differs = row.published.as_ref().is_none_or(|before| **before != *row.it);
        row.published = Some(row.it.clone());
        differs
    }

    fn place(&self, id: &str) -> Option<(&str, &Ref)> {
        self.rows.get(id).map(|row| row.it.place())
    }

    fn below(&self, is_such: &dyn Fn(&Ref) -> bool) -> Vec<Arc<str>> {
        self.rows.iter().filter(|(_, row)| is_such(row.it.place().1)).map(|(id, _)| id.clone()).collect()
    }

    fn resource(&self, id: &str) -> Option<Arc<dyn Resource>> {
        self.rows.get(id).map(|row| row.it.clone() as Arc<dyn Resource>)
    }
}
