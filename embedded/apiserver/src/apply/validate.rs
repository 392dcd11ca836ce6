//! Whether a value has the shape that its schema gives it, as far as server-side apply needs to know.

use std::collections::BTreeSet;

use serde_json::Value;

use super::types::{Scalar, Shape, Type};

/// Checks a value; the error names each place and fault. `duplicates` lets list elements occur more than once.
pub fn validate(value: &Value, ty: Type, duplicates: bool) -> Result<(), String> {
    let mut faults = Vec::new();
    walk(value, ty, duplicates, "", &mut faults);
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(std::iter::once("errors:".to_string())
            .chain(many.iter().map(|fault| format!("  {fault}")))
            .collect::<Vec<_>>()
            .join("\n")),
    }
}

fn fault(at: &str, what: &str) -> String {
    if at.is_empty() { what.to_string() } else { format!("{at}: {what}") }
}

fn walk(value: &Value, ty: Type, duplicates: bool, at: &str, faults: &mut Vec<String>) {
    match (ty.atom().of(Some(value)).shape(), value) {
        (Shape::None, _) => faults.push(fault(at, "schema error: invalid atom: inlined")),
        (_, Value::Null) => {}
        (Shape::Scalar(scalar), value) => {
            if let Some(wanted) = mismatch(scalar, value) {
                faults.push(fault(at, &wanted));
            }
        }
        (Shape::Map(map), Value::Object(fields)) => {
            for (name, item) in fields {
                let at = format!("{at}.{name}");
                let ty = map.child(name);
                if matches!(ty, Type::Undeclared) {
                    faults.push(fault(&at, "field not declared in schema"));
                    // one undeclared field ends the look at its neighbours
                    return;
                }
                walk(item, ty, duplicates, &at, faults);
            }
        }
        (Shape::Map(_), value) => faults.push(fault(at, &format!("expected map, got {}", go(value)))),
        (Shape::List(list), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let step = if list.is_atomic() {
                    super::step::Step::Index(i64::try_from(index).unwrap_or(i64::MAX))
                } else {
                    match list.step(item) {
                        Ok(step) => step,
                        Err(error) => return faults.push(fault(at, &format!("element {index}: {error}"))),
                    }
                };
                let shown = format!("{at}{step}");
                if !seen.insert(step.clone()) && !duplicates {
                    faults.push(fault(at, &format!("duplicate entries for key {step}")));
                }
                walk(item, list.element, duplicates, &shown, faults);
            }
        }
        (Shape::List(_), value) => faults.push(fault(at, &format!("expected list, got {}", go(value)))),
    }
}

/// What a plain value should be, when it is something else.
pub fn mismatch(scalar: Scalar, value: &Value) -> Option<String> {
    let fits = match scalar {
        Scalar::Number => value.is_number(),
        Scalar::Text => value.is_string(),
        Scalar::Truth => value.is_boolean(),
        Scalar::Any => value.is_number() || value.is_string() || value.is_boolean(),
    };
    if fits || value.is_null() {
        return None;
    }
    Some(match scalar {
        Scalar::Number => format!("expected numeric (int or float), got {}", go_type(value)),
        Scalar::Text => format!("expected string, got {}", go_syntax(value)),
        Scalar::Truth => format!("expected boolean, got {}", go(value)),
        Scalar::Any => format!("expected any scalar, got {}", go(value)),
    })
}

/// A value as Kubernetes' messages show it.
fn go(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", go_inside(v))).collect();
            fields.sort();
            format!("&{{map[{}]}}", fields.join(" "))
        }
        value => format!("&{{{}}}", go_inside(value)),
    }
}

fn go_inside(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_inside).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", go_inside(v))).collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
        value => value.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn go_syntax(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => format!("&value.valueUnstructured{{Value:{value}}}"),
        value => format!("&value.valueUnstructured{{Value:{}}}", go_inside(value)),
    }
}
