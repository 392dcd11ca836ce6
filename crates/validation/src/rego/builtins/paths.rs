//! Parts of documents by paths: `a/b/0`, or lists of keys.

use super::{Builtin, ours};
use crate::rego::limits::{Budget, Stop};
use crate::rego::value::Value;

pub const ALL: &[Builtin] = &[
    ours("json.filter", 2, |budget, a| match (a[0], Paths::read(a[1])) {
        (Value::Object(_), Some(paths)) => kept(budget, a[0], &paths).map(Some),
        _ => Ok(None),
    }),
    ours("json.remove", 2, |budget, a| match (a[0], Paths::read(a[1])) {
        (Value::Object(_), Some(paths)) => without(budget, a[0], Some(&paths)),
        _ => Ok(None),
    }),
];

/// Paths as a tree of their keys.
enum Paths {
    /// A path ends here.
    End,
    Below(Vec<(Value, Paths)>),
}

impl Paths {
    fn read(value: &Value) -> Option<Self> {
        let (Value::Array(items) | Value::Set(items)) = value else { return None };
        let mut root = Paths::Below(Vec::new());
        for item in items.iter() {
            let keys: Vec<Value> = match item {
                Value::String(text) if text.is_empty() => Vec::new(),
                Value::String(text) => {
                    let parts = text.trim_start_matches('/').split('/');
                    parts.map(|part| Value::string(part.replace("~1", "/").replace("~0", "~"))).collect()
                }
                Value::Array(keys) => keys.to_vec(),
                _ => return None,
            };
            if !keys.is_empty() {
                root.add(&keys);
            }
        }
        Some(root)
    }

    fn add(&mut self, keys: &[Value]) {
        // below the end of another path everything is meant already
        let (Paths::Below(members), Some((first, rest))) = (self, keys.split_first()) else { return };
        let at = match members.iter().position(|(key, _)| key == first) {
            Some(at) => at,
            None => {
                members.push((first.clone(), Paths::Below(Vec::new())));
                members.len() - 1
            }
        };
        let Some((_, member)) = members.get_mut(at) else { return };
        match rest.is_empty() {
            true => *member = Paths::End,
            false => member.add(rest),
        }
    }

    fn get(&self, key: &Value) -> Option<&Paths> {
        match self {
            Paths::End => None,
            Paths::Below(members) => members.iter().find(|(known, _)| known == key).map(|(_, paths)| paths),
        }
    }

    /// Positions in arrays are texts in paths.
    fn at(&self, position: usize) -> Option<&Paths> {
        self.get(&Value::string(position.to_string()))
    }
}

fn kept(budget: &mut Budget, value: &Value, paths: &Paths) -> Result<Value, Stop> {
    budget.charge(value.weight())?;
    if matches!(paths, Paths::End) {
        return Ok(value.clone());
    }
    Ok(match value {
        Value::Array(items) => {
            let mut rest = Vec::new();
            for (at, item) in items.iter().enumerate() {
                if let Some(paths) = paths.at(at) {
                    rest.push(kept(budget, item, paths)?);
                }
            }
            Value::array(rest)
        }
        Value::Set(items) => {
            let mut rest = Vec::new();
            for item in items.iter() {
                if let Some(paths) = paths.get(item) {
                    rest.push(kept(budget, item, paths)?);
                }
            }
            Value::set(rest)
        }
        Value::Object(members) => {
            let mut rest = Vec::new();
            for (key, member) in members.iter() {
                if let Some(paths) = paths.get(key) {
                    rest.push((key.clone(), kept(budget, member, paths)?));
                }
            }
            Value::object(rest)
        }
        scalar => scalar.clone(),
    })
}

fn without(budget: &mut Budget, value: &Value, paths: Option<&Paths>) -> Result<Option<Value>, Stop> {
    let paths = match paths {
        None => return Ok(Some(value.clone())),
        Some(Paths::End) => return Ok(None),
        Some(paths) => paths,
    };
    budget.charge(value.weight())?;
    Ok(Some(match value {
        Value::Array(items) => {
            let mut rest = Vec::new();
            for (at, item) in items.iter().enumerate() {
                rest.extend(without(budget, item, paths.at(at))?);
            }
            Value::array(rest)
        }
        Value::Set(items) => {
            let mut rest = Vec::new();
            for item in items.iter() {
                rest.extend(without(budget, item, paths.get(item))?);
            }
            Value::set(rest)
        }
        Value::Object(members) => {
            let mut rest = Vec::new();
            for (key, member) in members.iter() {
                rest.extend(without(budget, member, paths.get(key))?.map(|member| (key.clone(), member)));
            }
            Value::object(rest)
        }
        scalar => scalar.clone(),
    }))
}
