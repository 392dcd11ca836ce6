//! From values to sets and back: the paths that a value has, a value without some paths, and a stored set that is
//! brought in line with a schema that changed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::FieldSet;
use super::step::Step;
use super::types::{Shape, Type};

/// The paths that a whole object has.
pub fn of_value(value: &Value, ty: Type) -> Result<FieldSet, String> {
    Ok(walk(value, ty)?.1)
}

/// Whether the value itself is a member, and the paths below it.
fn walk(value: &Value, ty: Type) -> Result<(bool, FieldSet), String> {
    let mut set = FieldSet::default();
    match ty.atom().of(Some(value)).shape() {
        Shape::None => return Err("schema error: invalid atom: inlined".into()),
        Shape::Scalar(_) => return Ok((true, set)),
        Shape::Map(map) => {
            if map.atomic {
                return Ok((true, set));
            }
            for (name, item) in value.as_object().into_iter().flatten() {
                let (own, below) = walk(item, map.child(name))?;
                let empty = item.is_null() || item.as_object().is_some_and(serde_json::Map::is_empty);
                set.put(Step::field(name), own || empty || map.field(name).is_none(), below);
            }
        }
        Shape::List(list) => {
            if list.is_atomic() {
                return Ok((true, set));
            }
            let (mut seen, mut several) = (BTreeSet::new(), BTreeSet::new());
            let mut steps = Vec::new();
            for item in value.as_array().into_iter().flatten() {
                let step = list.step(item).unwrap_or(Step::Nothing);
                if !seen.insert(step.clone()) {
                    several.insert(step.clone());
                }
                steps.push((step, item));
            }
            for (step, item) in steps {
                // of elements that occur several times only the element as a whole is owned
                let below = if several.contains(&step) { FieldSet::default() } else { walk(item, list.element)?.1 };
                set.put(step, true, below);
            }
        }
    }
    Ok((false, set))
}

/// The object without the paths of `gone`. What loses all its content becomes null.
pub fn remove(value: &Value, gone: &FieldSet, ty: Type) -> Value {
    match (ty.atom().of(Some(value)).shape(), value) {
        (Shape::Scalar(_), value) => value.clone(),
        (Shape::Map(map), Value::Object(fields)) if !map.atomic => {
            let mut out = serde_json::Map::with_capacity(fields.len());
            for (name, item) in fields {
                let step = Step::field(name);
                if gone.has(&step) {
                    continue;
                }
                let item = match gone.below(&step) {
                    Some(below) => remove(item, below, map.child(name)),
                    None => item.clone(),
                };
                out.insert(name.clone(), item);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (Shape::List(list), Value::Array(items)) if !list.is_atomic() => {
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                let step = list.step(item).unwrap_or(Step::Nothing);
                if gone.has(&step) {
                    continue;
                }
                out.push(match gone.below(&step) {
                    Some(below) => remove(item, below, list.element),
                    None => item.clone(),
                });
            }
            if out.is_empty() { Value::Null } else { Value::Array(out) }
        }
        _ => Value::Null,
    }
}

/// The set in line with the schema: where a list or map has become one value since, what was owned of it becomes
/// ownership of the whole.
pub fn reconcile(set: &FieldSet, ty: Type) -> FieldSet {
    let mut out = FieldSet::default();
    for (step, member, below) in set.steps() {
        let child = match (ty.atom().shape(), step) {
            // a whole object that is one value has no path by which it could be owned
            (Shape::Map(map), _) if map.is_deduced() || map.atomic => None,
            (Shape::Map(map), Step::Field(name)) => Some(map.child(name)),
            (Shape::Map(map), _) => Some(map.element),
            (Shape::List(list), _) => Some(list.element),
            (Shape::Scalar(_) | Shape::None, _) => None,
        };
        let Some(child) = child.filter(|child| !matches!(child, Type::Undeclared)) else {
            out.put(step.clone(), member, below.clone());
            continue;
        };
        let one_value = match child.atom().shape() {
            Shape::Map(map) => map.atomic && !map.is_deduced() && !below.is_empty(),
            Shape::List(list) => list.is_atomic() && !(member && below.is_empty()),
            Shape::Scalar(_) | Shape::None => false,
        };
        if one_value {
            out.put(step.clone(), true, FieldSet::default());
        } else {
            out.put(step.clone(), member, reconcile(below, child));
        }
    }
    out
}
