//! Which paths differ between two versions of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::set::FieldSet;
use super::step::{Step, equal};
use super::types::{Atom, List, Map, Shape, Type};
use super::validate::mismatch;

/// Which paths differ. No path is in more than one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Only in the new version.
    pub added: FieldSet,
    /// In both, with another value.
    pub modified: FieldSet,
    /// Only in the old version.
    pub removed: FieldSet,
}

impl Difference {
    /// Takes out what is in `fields`, and all below it.
    pub fn without(self, fields: &FieldSet) -> Self {
        if fields.is_empty() {
            return self;
        }
        Self {
            added: self.added.difference_below(fields),
            modified: self.modified.difference_below(fields),
            removed: self.removed.difference_below(fields),
        }
    }

    /// Puts what was found at and below a step in its place.
    fn put(&mut self, step: impl Fn() -> Step, found: Found) {
        let Found { own, below } = found;
        for (mine, member, below) in [
            (&mut self.added, own.added, below.added),
            (&mut self.modified, own.modified, below.modified),
            (&mut self.removed, own.removed, below.removed),
        ] {
            if member || !below.is_empty() {
                mine.put(step(), member, below);
            }
        }
    }

    fn extend(&mut self, other: &Self) {
        self.added.extend(&other.added);
        self.modified.extend(&other.modified);
        self.removed.extend(&other.removed);
    }
}

/// What was found about one value: about itself, and below it.
#[derive(Default)]
struct Found {
    own: Own,
    below: Difference,
}

#[derive(Clone, Copy, Default)]
struct Own {
    added: bool,
    modified: bool,
    removed: bool,
}

/// Compares two versions of a whole object.
pub fn compare(old: &Value, new: &Value, ty: Type) -> Result<Difference, String> {
    Ok(walk(Some(old), Some(new), ty)?.below)
}

fn walk(old: Option<&Value>, new: Option<&Value>, ty: Type) -> Result<Found, String> {
    let atom = ty.atom();
    let (before, after) = (atom.of(old), atom.of(new));
    let mut found = Found::default();
    let leaf = if new.is_none() {
        by_shape(old, new, before, &mut found)?
    } else if old.is_none() || before.same(&after) {
        by_shape(old, new, after, &mut found)?
    } else {
        // the shape changed: what the old one had goes, what the new one has comes
        by_shape(old, new, before, &mut found)?;
        by_shape(old, new, after, &mut found)?
    };
    if !leaf {
        found.own.added |= old.is_none();
        found.own.removed |= new.is_none();
    }
    Ok(found)
}

/// Returns whether both were compared as one value.
fn by_shape(old: Option<&Value>, new: Option<&Value>, atom: Atom, found: &mut Found) -> Result<bool, String> {
    match atom.shape() {
        Shape::None => Err("schema error: invalid atom: inlined".into()),
        Shape::Scalar(scalar) => {
            if let (Some(old), Some(new)) = (old, new)
                && let (Some(error), Some(_)) = (mismatch(scalar, old), mismatch(scalar, new))
            {
                return Err(error);
            }
            leaf(old, new, found);
            Ok(true)
        }
        Shape::Map(map) => {
            let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let empty = before.is_none_or(serde_json::Map::is_empty) && after.is_none_or(serde_json::Map::is_empty);
            if map.atomic || empty {
                leaf(old, new, found);
                return Ok(true);
            }
            maps(before, after, map, found)?;
            Ok(false)
        }
        Shape::List(list) => {
            let items = |v: Option<&'_ Value>| v.and_then(Value::as_array).map_or(0, Vec::len);
            if list.is_atomic() || (items(old) == 0 && items(new) == 0) {
                leaf(old, new, found);
                return Ok(true);
            }
            lists(old.and_then(Value::as_array), new.and_then(Value::as_array), list, found)?;
            Ok(false)
        }
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>, found: &mut Found) {
    match (old, new) {
        (None, _) => found.own.added = true,
        (_, None) => found.own.removed = true,
        (Some(old), Some(new)) => found.own.modified |= !equal(old, new),
    }
}

type Fields = serde_json::Map<String, Value>;

fn maps(old: Option<&Fields>, new: Option<&Fields>, map: Map, found: &mut Found) -> Result<(), String> {
    for (name, before) in old.into_iter().flatten() {
        let after = new.and_then(|new| new.get(name));
        let below = walk(Some(before), after, map.child(name))?;
        found.below.put(|| Step::field(name), below);
    }
    for (name, after) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(name)) {
            let below = walk(None, Some(after), map.child(name))?;
            found.below.put(|| Step::field(name), below);
        }
    }
    Ok(())
}

fn lists(old: Option<&Vec<Value>>, new: Option<&Vec<Value>>, list: List, found: &mut Found) -> Result<(), String> {
    let (old, new) = (by_step(old, list)?, by_step(new, list)?);
    let none = Vec::new();
    let steps: BTreeSet<&Step> = old.keys().chain(new.keys()).collect();
    for step in steps {
        let (before, after) = (old.get(step).unwrap_or(&none), new.get(step).unwrap_or(&none));
        let mut all = Found::default();
        match (before.as_slice(), after.as_slice()) {
            ([] | [_], [] | [_]) => all = walk(before.first().copied(), after.first().copied(), list.element)?,
            // elements that occur several times are compared as one value
            ([_, _, ..], [_, _, ..]) => {
                all.own.modified = before.len() != after.len()
                    || before.iter().zip(after).any(|(before, after)| !equal(before, after));
            }
            ([_, _, ..], few) => {
                if let Some(after) = few.first() {
                    all = walk(None, Some(after), list.element)?;
                }
                all.own.removed = true;
            }
            (few, [_, _, ..]) => {
                if let Some(before) = few.first() {
                    all = walk(Some(before), None, list.element)?;
                }
                all.own.added = true;
            }
        }
        let mut below = Difference::default();
        below.put(|| step.clone(), all);
        found.below.extend(&below);
    }
    Ok(())
}

fn by_step<'a>(items: Option<&'a Vec<Value>>, list: List) -> Result<BTreeMap<Step, Vec<&'a Value>>, String> {
    let mut all: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        let step = list.step(item).map_err(|error| format!("element {index}: {error}"))?;
        all.entry(step).or_default().push(item);
    }
    Ok(all)
}
