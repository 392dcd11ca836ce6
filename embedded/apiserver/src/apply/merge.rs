//! Putting a configuration over a live value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::step::Step;
use super::types::{Atom, List, Map, Shape, Type};
use super::validate::mismatch;

/// Merges two whole objects: nothing of the live one goes, plain values are the configuration's where it has them, list
/// elements keep the live order unless the configuration orders them otherwise.
pub fn merge(live: &Value, config: &Value, ty: Type) -> Result<Value, String> {
    Ok(walk(Some(live), Some(config), ty)?.unwrap_or(Value::Null))
}

fn walk(live: Option<&Value>, config: Option<&Value>, ty: Type) -> Result<Option<Value>, String> {
    let atom = ty.atom();
    let (before, after) = (atom.of(live), atom.of(config));
    if config.is_none() {
        return by_shape(live, config, before);
    }
    if live.is_some() && !before.same(&after) {
        // only for its faults: the configuration has another shape and replaces the value
        by_shape(live, config, before)?;
    }
    by_shape(live, config, after)
}

fn by_shape(live: Option<&Value>, config: Option<&Value>, atom: Atom) -> Result<Option<Value>, String> {
    let leaf = || Ok(config.or(live).cloned());
    match atom.shape() {
        Shape::None => Err("schema error: invalid atom: inlined".into()),
        Shape::Scalar(scalar) => match (live, config) {
            (Some(live), Some(config)) => match (mismatch(scalar, live), mismatch(scalar, config)) {
                (Some(error), Some(_)) => Err(error),
                _ => leaf(),
            },
            _ => leaf(),
        },
        Shape::Map(map) => {
            let (before, after) = (live.and_then(Value::as_object), config.and_then(Value::as_object));
            let empty = before.is_none_or(serde_json::Map::is_empty) && after.is_none_or(serde_json::Map::is_empty);
            if map.atomic || empty { leaf() } else { maps(before, after, map) }
        }
        Shape::List(list) => {
            let (before, after) = (live.and_then(Value::as_array), config.and_then(Value::as_array));
            let empty = before.is_none_or(Vec::is_empty) && after.is_none_or(Vec::is_empty);
            if list.is_atomic() || empty { leaf() } else { lists(before, after, list) }
        }
    }
}

type Fields = serde_json::Map<String, Value>;

fn maps(live: Option<&Fields>, config: Option<&Fields>, map: Map) -> Result<Option<Value>, String> {
    let mut out = Fields::new();
    for (name, before) in live.into_iter().flatten() {
        if let Some(merged) = walk(Some(before), config.and_then(|c| c.get(name)), map.child(name))? {
            out.insert(name.clone(), merged);
        }
    }
    for (name, after) in config.into_iter().flatten() {
        if live.is_none_or(|live| !live.contains_key(name))
            && let Some(merged) = walk(None, Some(after), map.child(name))?
        {
            out.insert(name.clone(), merged);
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// Elements of one list: their steps in order, and the value of each (null for those that occur several times).
struct Index<'a> {
    steps: Vec<Step>,
    values: BTreeMap<Step, &'a Value>,
}

fn index<'a>(items: Option<&'a Vec<Value>>, list: List, duplicates: bool) -> Result<Index<'a>, String> {
    static SEVERAL: Value = Value::Null;
    let mut index = Index { steps: Vec::new(), values: BTreeMap::new() };
    for (at, item) in items.into_iter().flatten().enumerate() {
        let step = list.step(item).map_err(|error| format!("element {at}: {error}"))?;
        match index.values.get_mut(&step) {
            Some(_) if !duplicates => return Err(format!("duplicate entries for key {step}")),
            Some(value) => *value = &SEVERAL,
            None => {
                index.values.insert(step.clone(), item);
            }
        }
        index.steps.push(step);
    }
    Ok(index)
}

/// Walks both lists side by side. Elements that both have keep the configuration's order among themselves; elements of
/// the live list alone stay behind the neighbour they had.
fn lists(live: Option<&Vec<Value>>, config: Option<&Vec<Value>>, list: List) -> Result<Option<Value>, String> {
    let wanted = index(config, list, false)?;
    let known = index(live, list, true)?;
    let mut out = Vec::with_capacity(known.steps.len().max(wanted.steps.len()));
    let mut take = |before: Option<&Value>, after: Option<&Value>| {
        // a fault below an element leaves the element out; both sides were checked before
        if let Ok(Some(merged)) = walk(before, after, list.element) {
            out.push(merged);
        }
    };
    let mut shared = wanted.steps.iter().filter(|step| known.values.contains_key(*step));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Step> = BTreeSet::new();
    let (mut l, mut c) = (0, 0);
    while l < known.steps.len() || c < wanted.steps.len() {
        if let (Some(step), Some(other)) = (known.steps.get(l), wanted.steps.get(c)) {
            if step == other {
                done.insert(step);
                take(known.values.get(step).copied(), wanted.values.get(step).copied());
                l += 1;
                c += 1;
                next_shared = shared.next();
                continue;
            }
            if wanted.values.contains_key(step) && next_shared.is_some_and(|next| next != step) {
                // shared, but its turn comes later
                l += 1;
                continue;
            }
        }
        if let Some(step) = known.steps.get(l) {
            if !wanted.values.contains_key(step) {
                take(live.and_then(|live| live.get(l)), None);
                l += 1;
                continue;
            }
            if done.contains(step) {
                l += 1;
            }
        }
        if let Some(step) = wanted.steps.get(c) {
            done.insert(step);
            take(known.values.get(step).copied(), wanted.values.get(step).copied());
            c += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}
