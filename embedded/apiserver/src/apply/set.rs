//! Sets of field paths, and their wire form `FieldsV1`.
//!
//! A step of a path is kept as it is written: `f:name` a field, `k:{…}` a list element by its keys, `v:…` a list
//! element by its value. A set is a tree of steps; a member is a path that ends there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::schema::{ListKind, Schema};

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Steps that are in the set themselves.
    pub members: BTreeSet<String>,
    /// What is in the set below a step.
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(FieldSet::is_empty)
    }

    /// Reads `FieldsV1`.
    pub fn decode(fields: &Value) -> Self {
        let mut set = Self::default();
        for (step, below) in fields.as_object().into_iter().flatten() {
            if step == "." {
                continue;
            }
            let step = canonical(step);
            let below_map = below.as_object();
            if below_map.is_none_or(|m| m.is_empty() || m.contains_key(".")) {
                set.members.insert(step.clone());
            }
            let child = Self::decode(below);
            if !child.is_empty() {
                set.children.insert(step, child);
            }
        }
        set
    }

    /// Writes `FieldsV1`.
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        let steps: BTreeSet<&String> = self.members.iter().chain(self.children.keys()).collect();
        for step in steps {
            let child = self.children.get(step).filter(|c| !c.is_empty());
            let value = match (self.members.contains(step), child) {
                (true, None) => Value::Object(Map::new()),
                (true, Some(child)) => {
                    let mut below = Map::new();
                    below.insert(".".into(), Value::Object(Map::new()));
                    if let Value::Object(rest) = child.encode() {
                        below.extend(rest);
                    }
                    Value::Object(below)
                }
                (false, Some(child)) => child.encode(),
                (false, None) => continue,
            };
            map.insert(step.clone(), value);
        }
        Value::Object(map)
    }

    /// Paths in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            let merged = all.children.get(step).map_or_else(|| child.clone(), |c| c.union(child));
            all.children.insert(step.clone(), merged);
        }
        all
    }

    /// Paths in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self
            .children
            .iter()
            .filter_map(|(step, child)| Some((step.clone(), child.intersection(other.children.get(step)?))));
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: children.filter(|(_, c)| !c.is_empty()).collect(),
        }
    }

    /// Paths here that are not there.
    pub fn difference(&self, other: &Self) -> Self {
        let child = |(step, child): (&String, &FieldSet)| {
            (step.clone(), other.children.get(step).map_or_else(|| child.clone(), |o| child.difference(o)))
        };
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: self.children.iter().map(child).filter(|(_, c)| !c.is_empty()).collect(),
        }
    }

    /// Paths here that are neither there nor below a path that is there.
    pub fn difference_below(&self, other: &Self) -> Self {
        let kept = self.children.iter().filter(|(step, _)| !other.members.contains(*step));
        let child = |(step, child): (&String, &FieldSet)| {
            (step.clone(), other.children.get(step).map_or_else(|| child.clone(), |o| child.difference_below(o)))
        };
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: kept.map(child).filter(|(_, c)| !c.is_empty()).collect(),
        }
    }

    /// Whether the step or something below it is in the set.
    pub fn touches(&self, step: &str) -> bool {
        self.members.contains(step) || self.children.get(step).is_some_and(|c| !c.is_empty())
    }

    /// Removes a path of fields and all below it.
    pub fn remove(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let step = format!("f:{first}");
        if rest.is_empty() {
            self.members.remove(&step);
            self.children.remove(&step);
        } else if let Some(child) = self.children.get_mut(&step) {
            child.remove(rest);
            if child.is_empty() {
                self.children.remove(&step);
            }
        }
    }

    /// The paths as Kubernetes prints them.
    pub fn paths(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.collect("", &mut all);
        all
    }

    fn collect(&self, prefix: &str, all: &mut Vec<String>) {
        for step in &self.members {
            all.push(format!("{prefix}{}", show(step)));
        }
        for (step, child) in &self.children {
            child.collect(&format!("{prefix}{}", show(step)), all);
        }
    }
}

fn show(step: &str) -> String {
    match step.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("k:", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            let parts: Vec<String> = keys.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", parts.join(","))
        }
        _ => step.to_string(),
    }
}

fn canonical(step: &str) -> String {
    match step.split_at_checked(2) {
        Some(("k:", keys)) => match serde_json::from_str::<BTreeMap<String, Value>>(keys) {
            Ok(sorted) => format!("k:{}", serde_json::to_string(&sorted).unwrap_or_else(|_| keys.to_string())),
            Err(_) => step.to_string(),
        },
        Some(("v:", value)) => {
            serde_json::from_str::<Value>(value).map_or_else(|_| step.to_string(), |v| format!("v:{v}"))
        }
        _ => step.to_string(),
    }
}

/// The step of a list element; None for elements that have no key.
pub fn element(kind: &ListKind, schema: &Schema, item: &Value) -> Option<String> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(format!("v:{item}")),
        ListKind::Map(keys) => {
            let mut found: BTreeMap<&str, Value> = BTreeMap::new();
            for key in keys {
                let default = || schema.items.as_ref()?.properties.get(key)?.default.clone();
                if let Some(value) = item.get(key).cloned().or_else(default) {
                    found.insert(key, value);
                }
            }
            serde_json::to_string(&found).ok().map(|text| format!("k:{text}"))
        }
    }
}

/// How a value is made up, as far as managers are concerned.
pub enum Parts<'a> {
    /// One value.
    Leaf,
    /// Fields, each with the schema below it and whether it is a declared field.
    Fields(Vec<(String, &'a Value, &'a Schema, bool)>),
    /// List elements.
    Elements(Vec<(String, &'a Value, &'a Schema)>),
}

static FREE: std::sync::LazyLock<Schema> =
    std::sync::LazyLock::new(|| Schema { preserve_unknown: true, ..Schema::default() });

/// Takes a value apart.
pub fn parts<'a>(value: &'a Value, schema: &'a Schema) -> Parts<'a> {
    match value {
        Value::Object(map) if !schema.atomic => {
            let field = |(name, item): (&'a String, &'a Value)| {
                let declared = schema.properties.get(name);
                let below: &Schema = declared.or(schema.additional.as_ref()).map_or(&*FREE, |s| s);
                (format!("f:{name}"), item, below, declared.is_some())
            };
            Parts::Fields(map.iter().map(field).collect())
        }
        Value::Array(list) if schema.list != ListKind::Atomic => {
            let below: &Schema = schema.items.as_deref().unwrap_or(&FREE);
            Parts::Elements(
                list.iter().filter_map(|item| Some((element(&schema.list, schema, item)?, item, below))).collect(),
            )
        }
        _ => Parts::Leaf,
    }
}

/// The paths that a configuration sets.
pub fn of_value(value: &Value, schema: &Schema) -> FieldSet {
    let mut set = FieldSet::default();
    match parts(value, schema) {
        Parts::Leaf => {}
        Parts::Fields(fields) => {
            for (step, item, below, declared) in fields {
                let child = of_value(item, below);
                let leaf = matches!(parts(item, below), Parts::Leaf);
                let empty = item.as_object().is_some_and(Map::is_empty);
                if leaf || empty || !declared {
                    set.members.insert(step.clone());
                }
                if !child.is_empty() {
                    set.children.insert(step, child);
                }
            }
        }
        Parts::Elements(elements) => {
            for (step, item, below) in elements {
                let child = of_value(item, below);
                set.members.insert(step.clone());
                if !child.is_empty() {
                    set.children.insert(step, child);
                }
            }
        }
    }
    set
}
