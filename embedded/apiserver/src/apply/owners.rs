//! The rules of ownership: what an update and an apply do to an object and to the sets of all its managers.
//!
//! ```text
//!  update: compare(old, new) ─► what changed becomes the updater's and nobody else's, what is gone is nobody's
//!  apply:  merge(live, config) ─► take out what the same manager applied before, not now, and nobody else owns
//!          ─► compare(live, merged) ─► a change of what others own is a conflict, or theirs no longer when forced
//! ```

use serde_json::Value;

use super::compare::{Difference, compare};
use super::fields::{of_value, reconcile, remove};
use super::merge::merge;
use super::set::FieldSet;
use super::step::{Step, equal};
use super::types::Type;

/// What one manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner<Name> {
    /// Who.
    pub name: Name,
    /// Its fields.
    pub fields: FieldSet,
    /// Whether it applied them.
    pub applied: bool,
}

/// One field that somebody else owns and an apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<Name> {
    /// Who owns it.
    pub owner: Name,
    /// The field.
    pub path: Vec<Step>,
}

/// Why an apply was not made.
#[derive(Debug)]
pub enum Refused<Name> {
    /// Others own what it would change.
    Conflicts(Vec<Conflict<Name>>),
    /// The object or the configuration does not fit the schema.
    Shape(String),
}

/// The owners of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners<Name> {
    /// In no order.
    pub list: Vec<Owner<Name>>,
}

impl<Name: Clone + PartialEq> Owners<Name> {
    /// What the manager owns.
    pub fn of(&self, name: &Name) -> Option<&FieldSet> {
        self.list.iter().find(|owner| owner.name == *name).map(|owner| &owner.fields)
    }

    /// Sets what the manager owns; nothing takes it off the list.
    pub fn set(&mut self, name: &Name, fields: FieldSet, applied: bool) {
        self.list.retain(|owner| owner.name != *name);
        if !fields.is_empty() {
            self.list.push(Owner { name: name.clone(), fields, applied });
        }
    }

    fn reconcile(&mut self, ty: Type) {
        for owner in &mut self.list {
            owner.fields = reconcile(&owner.fields, ty);
        }
    }

    /// Fields of others that the difference touches.
    fn conflicts(&self, me: &Name, difference: &Difference) -> Vec<(Name, FieldSet)> {
        let changed = difference.modified.union(&difference.added);
        let others = self.list.iter().filter(|owner| owner.name != *me);
        let touched = others.map(|owner| (owner.name.clone(), owner.fields.intersection(&changed)));
        touched.filter(|(_, fields)| !fields.is_empty()).collect()
    }

    /// Takes changed and removed fields from everybody else.
    fn give_up(&mut self, me: &Name, difference: &Difference) {
        for owner in self.list.iter_mut().filter(|owner| owner.name != *me) {
            for gone in [&difference.modified, &difference.added, &difference.removed] {
                if !gone.is_empty() {
                    owner.fields = owner.fields.difference(gone);
                }
            }
        }
        self.list.retain(|owner| !owner.fields.is_empty());
    }

    /// Notes that `me` made `new` of `old`. Fields in `ignored` are nobody's by this path.
    pub fn update(&mut self, old: &Value, new: &Value, ty: Type, me: &Name, ignored: &FieldSet) -> Result<(), String> {
        self.reconcile(ty);
        let difference = compare(old, new, ty)?.without(ignored);
        self.give_up(me, &difference);
        let mut mine = self.of(me).map(|fields| fields.difference(&difference.removed)).unwrap_or_default();
        mine.extend(&difference.modified);
        mine.extend(&difference.added);
        self.set(me, mine.difference_below(ignored), false);
        Ok(())
    }

    /// Applies a configuration; returns the object, or None when it stays as it is.
    pub fn apply(
        &mut self,
        live: &Value,
        config: &Value,
        ty: Type,
        me: &Name,
        force: bool,
        ignored: &FieldSet,
    ) -> Result<Option<Value>, Refused<Name>> {
        let shape = |what: &str, error: String| Refused::Shape(format!("{what}: {error}"));
        self.reconcile(ty);
        let mut merged = merge(live, config, ty).map_err(|e| shape("failed to merge config", e))?;
        let last = self.of(me).cloned().unwrap_or_default();
        let mine = of_value(config, ty).map_err(|e| shape("failed to get field set", e))?.difference_below(ignored);
        self.list.retain(|owner| owner.name != *me);
        self.list.push(Owner { name: me.clone(), fields: mine, applied: true });
        if !last.is_empty() {
            merged = self.prune(&merged, ty, &last).map_err(|e| shape("failed to prune fields", e))?;
        }
        let difference =
            compare(live, &merged, ty).map_err(|e| shape("failed to compare objects", e))?.without(ignored);
        let conflicts = self.conflicts(me, &difference);
        if !conflicts.is_empty() && !force {
            let each = |(owner, fields): &(Name, FieldSet)| {
                let owner = owner.clone();
                fields.paths().into_iter().map(move |path| Conflict { owner: owner.clone(), path })
            };
            return Err(Refused::Conflicts(conflicts.iter().flat_map(each).collect()));
        }
        self.give_up(me, &difference);
        Ok((!equal(live, &merged)).then_some(merged))
    }

    /// Takes out what the last configuration had, this one has not, and nobody owns. Two passes: first everything of the
    /// last configuration goes and what is owned comes back; then what was in the way of neither comes back, such as
    /// elements that somebody put below a map of the last configuration.
    fn prune(&self, merged: &Value, ty: Type, last: &FieldSet) -> Result<Value, String> {
        let last = last.with_declared_fields(ty);
        let pruned = remove(merged, &last, ty);
        let all = of_value(merged, ty)?.with_declared_fields(ty);
        let mut owned = FieldSet::default();
        for owner in &self.list {
            owned.extend(&owner.fields);
        }
        let mut kept = of_value(&pruned, ty)?.with_declared_fields(ty);
        kept.extend(&owned.with_declared_fields(ty));
        let pruned = remove(merged, &all.difference(&kept), ty);
        let kept = of_value(&pruned, ty)?.with_declared_fields(ty);
        Ok(remove(merged, &all.difference(&kept).intersection(&last), ty))
    }
}
