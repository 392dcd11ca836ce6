//! Comparing two versions, merging a configuration into one, taking fields out of one.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::set::{FieldSet, Parts, element, parts};
use crate::schema::{ListKind, Schema};

/// Which paths differ between two versions.
#[derive(Debug, Default)]
pub struct Difference {
    /// Only in the new one.
    pub added: FieldSet,
    /// In both, with another value.
    pub modified: FieldSet,
    /// Only in the old one.
    pub removed: FieldSet,
}

impl Difference {
    fn take(&mut self, step: &str, child: Difference) {
        for (mine, below) in
            [(&mut self.added, child.added), (&mut self.modified, child.modified), (&mut self.removed, child.removed)]
        {
            if !below.is_empty() {
                mine.children.insert(step.to_string(), below);
            }
        }
    }
}

/// Compares the contents of two versions of the same value.
pub fn compare(old: &Value, new: &Value, schema: &Schema) -> Difference {
    let mut difference = Difference::default();
    let (old_parts, new_parts) = (steps(old, schema), steps(new, schema));
    let old_by_step: HashMap<&str, &Value> = old_parts.iter().map(|(s, v, _)| (s.as_str(), *v)).collect();
    let new_steps: HashSet<&str> = new_parts.iter().map(|(s, _, _)| s.as_str()).collect();
    for (step, after, below) in &new_parts {
        match old_by_step.get(step.as_str()) {
            None => {
                difference.added.members.insert(step.clone());
                difference.take(step, compare(&Value::Null, after, below));
            }
            Some(before) => {
                let both = is_container(before, below)
                    && is_container(after, below)
                    && before.is_object() == after.is_object();
                if both {
                    difference.take(step, compare(before, after, below));
                } else if before != after {
                    difference.modified.members.insert(step.clone());
                    difference.take(step, compare(before, after, below));
                }
            }
        }
    }
    for (step, before, below) in &old_parts {
        if !new_steps.contains(step.as_str()) {
            difference.removed.members.insert(step.clone());
            difference.take(step, compare(before, &Value::Null, below));
        }
    }
    difference
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => value.is_null(),
    }
}

fn is_container(value: &Value, schema: &Schema) -> bool {
    !matches!(parts(value, schema), Parts::Leaf)
}

fn steps<'a>(value: &'a Value, schema: &'a Schema) -> Vec<(String, &'a Value, &'a Schema)> {
    match parts(value, schema) {
        Parts::Leaf => Vec::new(),
        Parts::Fields(fields) => fields.into_iter().map(|(step, item, below, _)| (step, item, below)).collect(),
        Parts::Elements(elements) => elements,
    }
}

static FREE: std::sync::LazyLock<Schema> =
    std::sync::LazyLock::new(|| Schema { preserve_unknown: true, ..Schema::default() });

/// Puts a configuration over the live value.
pub fn merge(live: &Value, config: &Value, schema: &Schema) -> Value {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !schema.atomic => {
            let mut out = live.clone();
            for (name, item) in config {
                let below: &Schema = schema.field(name).map_or(&FREE, |s| s);
                let merged = match live.get(name) {
                    Some(before) => merge(before, item, below),
                    None => item.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(live), Value::Array(config)) if schema.list != ListKind::Atomic => {
            Value::Array(merge_lists(live, config, schema))
        }
        // null says "this field, unset", and is kept out of objects by pruning
        (_, config) => config.clone(),
    }
}

/// Elements of the configuration in its order; the others stay where they were relative to their neighbours.
fn merge_lists(live: &[Value], config: &[Value], schema: &Schema) -> Vec<Value> {
    let below: &Schema = schema.items.as_deref().unwrap_or(&FREE);
    let key = |item: &Value| element(&schema.list, schema, item).unwrap_or_else(|| item.to_string());
    let wanted: Vec<String> = config.iter().map(key).collect();
    let mut out = Vec::new();
    let mut next = 0;
    for before in live {
        let step = key(before);
        match wanted.iter().position(|w| *w == step) {
            None => out.push(before.clone()),
            Some(at) => {
                for index in next..=at {
                    out.push(merged_element(live, config, index, &key, below));
                }
                next = next.max(at + 1);
            }
        }
    }
    for index in next..config.len() {
        out.push(merged_element(live, config, index, &key, below));
    }
    out
}

fn merged_element(
    live: &[Value],
    config: &[Value],
    index: usize,
    key: &impl Fn(&Value) -> String,
    below: &Schema,
) -> Value {
    let Some(item) = config.get(index) else { return Value::Null };
    let step = key(item);
    match live.iter().find(|l| key(l) == step) {
        Some(before) => merge(before, item, below),
        None => item.clone(),
    }
}

/// Takes out what the manager set before (`last`) and nobody owns now.
pub fn prune(value: &mut Value, schema: &Schema, last: &FieldSet, owned: &FieldSet) {
    let none = FieldSet::default();
    match value {
        Value::Object(map) if !schema.atomic => {
            let old = std::mem::take(map);
            for (name, mut item) in old {
                let step = format!("f:{name}");
                if last.members.contains(&step) && !owned.touches(&step) {
                    continue;
                }
                if let Some(last_below) = last.children.get(&step) {
                    let below: &Schema = schema.field(&name).map_or(&FREE, |s| s);
                    let had = !is_empty(&item);
                    prune(&mut item, below, last_below, owned.children.get(&step).unwrap_or(&none));
                    if had && is_empty(&item) && !owned.touches(&step) {
                        continue;
                    }
                }
                map.insert(name, item);
            }
        }
        Value::Array(list) if schema.list != ListKind::Atomic => {
            let below: &Schema = schema.items.as_deref().unwrap_or(&FREE);
            let old = std::mem::take(list);
            for mut item in old {
                let Some(step) = element(&schema.list, schema, &item) else {
                    list.push(item);
                    continue;
                };
                if last.members.contains(&step) && !owned.touches(&step) {
                    continue;
                }
                if let Some(last_below) = last.children.get(&step) {
                    prune(&mut item, below, last_below, owned.children.get(&step).unwrap_or(&none));
                }
                list.push(item);
            }
        }
        _ => {}
    }
}

/// An object with only the given top-level fields of `value`.
pub fn only(value: &Value, fields: &[&str]) -> Value {
    let map = value.as_object().into_iter().flatten().filter(|(k, _)| fields.contains(&k.as_str()));
    Value::Object(map.map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>())
}
