//! Arrays, sets, objects.

use std::sync::Arc;

use super::{Builtin, Outcome, ours, yes};
use crate::rego::limits::Budget;
use crate::rego::value::Value;

pub const ALL: &[Builtin] = &[
    ours("internal.member_2", 2, |budget, a| {
        let found = match &a[1] {
            Value::Set(items) => items.binary_search(a[0]).is_ok(),
            Value::Array(items) => {
                budget.charge(items.len() / 8)?;
                items.contains(a[0])
            }
            Value::Object(members) => members.iter().any(|(_, value)| value == a[0]),
            // OPA: anything else has no members
            _ => false,
        };
        yes(found)
    }),
    ours("internal.member_3", 3, |_, a| yes(a[2].get(a[0]) == Some(a[1]))),
    ours("count", 1, |_, a| {
        let count = match &a[0] {
            Value::Array(items) | Value::Set(items) => items.len(),
            Value::Object(members) => members.len(),
            Value::String(text) => text.chars().count(),
            _ => return Ok(None),
        };
        Ok(Some(Value::int(count as i64)))
    }),
    ours("max", 1, |_, a| items(&a[0]).map_or(Ok(None), |items| Ok(items.iter().max().cloned()))),
    ours("min", 1, |_, a| items(&a[0]).map_or(Ok(None), |items| Ok(items.iter().min().cloned()))),
    ours("sort", 1, |budget, a| {
        let Some(items) = items(&a[0]) else { return Ok(None) };
        budget.charge(items.len() * 24)?;
        let mut sorted = items.to_vec();
        sorted.sort();
        Ok(Some(Value::array(sorted)))
    }),
    ours("all", 1, |_, a| items(&a[0]).map_or(Ok(None), |items| yes(items.iter().all(|i| *i == Value::Bool(true))))),
    ours("any", 1, |_, a| items(&a[0]).map_or(Ok(None), |items| yes(items.contains(&Value::Bool(true))))),
    ours("object.subset", 2, |_, a| match (&a[0], &a[1]) {
        (Value::Object(_), Value::Object(_)) | (Value::Set(_), Value::Set(_)) | (Value::Array(_), Value::Array(_)) => {
            yes(holds_all(&a[0], &a[1]))
        }
        (Value::Array(items), Value::Set(wanted)) => yes(holds_as_many(items, wanted)),
        _ => Ok(None),
    }),
    ours("array.concat", 2, |budget, a| match (&a[0], &a[1]) {
        (Value::Array(left), Value::Array(right)) => {
            budget.charge((left.len() + right.len()) * 24)?;
            Ok(Some(Value::array(left.iter().chain(right.iter()).cloned().collect())))
        }
        _ => Ok(None),
    }),
    ours("array.reverse", 1, |budget, a| match &a[0] {
        Value::Array(items) => {
            budget.charge(items.len() * 24)?;
            Ok(Some(Value::array(items.iter().rev().cloned().collect())))
        }
        _ => Ok(None),
    }),
    ours("array.slice", 3, |budget, a| match (&a[0], &a[1], &a[2]) {
        (Value::Array(items), Value::Number(from), Value::Number(to)) => {
            let bound = |n: i128| usize::try_from(n.max(0)).unwrap_or(usize::MAX).min(items.len());
            let (Some(from), Some(to)) = (from.integral().map(bound), to.integral().map(bound)) else {
                return Ok(None);
            };
            budget.charge(items.len() * 24)?;
            Ok(Some(Value::array(items.get(from..to.max(from)).unwrap_or_default().to_vec())))
        }
        _ => Ok(None),
    }),
    ours("and", 2, |budget, a| match (&a[0], &a[1]) {
        (Value::Set(left), Value::Set(right)) => {
            budget.charge(left.len() * 24)?;
            let both = left.iter().filter(|item| right.binary_search(item).is_ok()).cloned().collect();
            Ok(Some(Value::Set(Arc::new(both))))
        }
        _ => Ok(None),
    }),
    ours("or", 2, |budget, a| match (&a[0], &a[1]) {
        (Value::Set(left), Value::Set(right)) => {
            budget.charge((left.len() + right.len()) * 24)?;
            Ok(Some(Value::set(left.iter().chain(right.iter()).cloned().collect())))
        }
        _ => Ok(None),
    }),
    ours("union", 1, |budget, a| {
        let Value::Set(sets) = &a[0] else { return Ok(None) };
        let mut all = Vec::new();
        for set in sets.iter() {
            let Value::Set(items) = set else { return Ok(None) };
            budget.charge(items.len() * 24)?;
            all.extend(items.iter().cloned());
        }
        Ok(Some(Value::set(all)))
    }),
    ours("intersection", 1, |_, a| {
        let Value::Set(sets) = &a[0] else { return Ok(None) };
        let mut common: Option<Vec<Value>> = None;
        for set in sets.iter() {
            let Value::Set(items) = set else { return Ok(None) };
            common = Some(match common {
                None => items.to_vec(),
                Some(common) => common.into_iter().filter(|item| items.binary_search(item).is_ok()).collect(),
            });
        }
        Ok(Some(Value::set(common.unwrap_or_default())))
    }),
    ours("object.get", 3, |_, a| {
        if !matches!(a[0], Value::Object(_)) {
            return Ok(None);
        }
        // an array is a path
        if let Value::Array(path) = &a[1] {
            let mut at = a[0];
            for key in path.iter() {
                match at.get(key) {
                    Some(next) => at = next,
                    None => return Ok(Some((*a[2]).clone())),
                }
            }
            return Ok(Some(at.clone()));
        }
        Ok(Some(a[0].get(a[1]).unwrap_or(a[2]).clone()))
    }),
    ours("object.keys", 1, |budget, a| match &a[0] {
        Value::Object(members) => {
            budget.charge(members.len() * 24)?;
            Ok(Some(Value::Set(Arc::new(members.iter().map(|(key, _)| key.clone()).collect()))))
        }
        _ => Ok(None),
    }),
    ours("object.remove", 2, |budget, a| chosen(budget, a, false)),
    ours("object.filter", 2, |budget, a| chosen(budget, a, true)),
    ours("object.union", 2, |budget, a| match (&a[0], &a[1]) {
        (Value::Object(_), Value::Object(_)) => united(budget, &a[0], &a[1]).map(Some),
        _ => Ok(None),
    }),
    ours("object.union_n", 1, |budget, a| {
        let Value::Array(objects) = &a[0] else { return Ok(None) };
        let mut all = Value::object(Vec::new());
        for object in objects.iter() {
            if !matches!(object, Value::Object(_)) {
                return Ok(None);
            }
            all = united(budget, &all, object)?;
        }
        Ok(Some(all))
    }),
];

fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) | Value::Set(items) => Some(items),
        _ => None,
    }
}

fn chosen(budget: &mut Budget, arguments: &[&Value], keep: bool) -> Outcome {
    let Value::Object(members) = &arguments[0] else { return Ok(None) };
    let keys: Vec<&Value> = match &arguments[1] {
        Value::Array(keys) | Value::Set(keys) => keys.iter().collect(),
        Value::Object(keys) => keys.iter().map(|(key, _)| key).collect(),
        _ => return Ok(None),
    };
    budget.charge(members.len() * 48)?;
    let rest = members.iter().filter(|(key, _)| keys.contains(&key) == keep).cloned().collect();
    Ok(Some(Value::Object(Arc::new(rest))))
}

/// The union of two objects; where both have an object the union goes on inside, else the right counts.
fn united(budget: &mut Budget, left: &Value, right: &Value) -> Result<Value, crate::rego::limits::Stop> {
    let (Value::Object(a), Value::Object(b)) = (left, right) else { return Ok(right.clone()) };
    budget.charge((a.len() + b.len()) * 48)?;
    let mut members: Vec<(Value, Value)> = Vec::with_capacity(a.len() + b.len());
    for (key, value) in a.iter() {
        let value = match right.get(key) {
            Some(other) => united(budget, value, other)?,
            None => value.clone(),
        };
        members.push((key.clone(), value));
    }
    members.extend(b.iter().filter(|(key, _)| left.get(key).is_none()).cloned());
    Ok(Value::object(members))
}

/// Whether all of `part` is in `whole`: keys with their values, members, or items one after the other.
fn holds_all(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(_), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| whole == part || holds_all(whole, part)))
        }
        (Value::Set(whole), Value::Set(part)) => part.iter().all(|member| whole.binary_search(member).is_ok()),
        (Value::Array(whole), Value::Array(part)) => {
            part.is_empty() || whole.windows(part.len()).any(|window| window == part.as_slice())
        }
        _ => false,
    }
}

/// OPA counts the items that are in the set, and an item that comes twice counts twice.
fn holds_as_many(items: &[Value], wanted: &[Value]) -> bool {
    let mut missing = wanted.len();
    items.iter().any(|item| {
        missing -= usize::from(missing > 0 && wanted.binary_search(item).is_ok());
        missing == 0
    })
}
