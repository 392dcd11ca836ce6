//! Operators, `size`, and optional values.

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::eval::{Budget, Fault};
use super::super::value::{List, Order, Value, same_keys};
use super::{Answer, failed, truth};

pub fn call(name: &str, args: &[Value], budget: &mut Budget) -> Answer {
    use Value::{Double, Int, Uint};
    match (name, args) {
        ("_==_", [a, b]) => compare_cost(a, b, budget).map_or_else(|f| Some(Err(f)), |()| truth(a == b)),
        ("_!=_", [a, b]) => compare_cost(a, b, budget).map_or_else(|f| Some(Err(f)), |()| truth(a != b)),
        ("_<_", [a, b]) => Some(order(a, b, |o| o == Ordering::Less)),
        ("_<=_", [a, b]) => Some(order(a, b, |o| o != Ordering::Greater)),
        ("_>_", [a, b]) => Some(order(a, b, |o| o == Ordering::Greater)),
        ("_>=_", [a, b]) => Some(order(a, b, |o| o != Ordering::Less)),
        ("!_", [Value::Bool(b)]) => truth(!b),
        ("-_", [Int(n)]) => Some(whole(n.checked_neg())),
        ("-_", [Double(n)]) => Some(Ok(Double(-n))),
        ("_+_", [Int(a), Int(b)]) => Some(whole(a.checked_add(*b))),
        ("_-_", [Int(a), Int(b)]) => Some(whole(a.checked_sub(*b))),
        ("_*_", [Int(a), Int(b)]) => Some(whole(a.checked_mul(*b))),
        ("_/_", [Int(_), Int(0)]) | ("_/_", [Uint(_), Uint(0)]) => failed("division by zero"),
        ("_%_", [Int(_), Int(0)]) | ("_%_", [Uint(_), Uint(0)]) => failed("modulus by zero"),
        ("_/_", [Int(a), Int(b)]) => Some(whole(a.checked_div(*b))),
        ("_%_", [Int(a), Int(b)]) => Some(whole(a.checked_rem(*b))),
        ("_+_", [Uint(a), Uint(b)]) => Some(unsigned(a.checked_add(*b))),
        ("_-_", [Uint(a), Uint(b)]) => Some(unsigned(a.checked_sub(*b))),
        ("_*_", [Uint(a), Uint(b)]) => Some(unsigned(a.checked_mul(*b))),
        ("_/_", [Uint(a), Uint(b)]) => Some(unsigned(a.checked_div(*b))),
        ("_%_", [Uint(a), Uint(b)]) => Some(unsigned(a.checked_rem(*b))),
        ("_+_", [Double(a), Double(b)]) => Some(Ok(Double(a + b))),
        ("_-_", [Double(a), Double(b)]) => Some(Ok(Double(a - b))),
        ("_*_", [Double(a), Double(b)]) => Some(Ok(Double(a * b))),
        ("_/_", [Double(a), Double(b)]) => Some(Ok(Double(a / b))),
        ("_+_", [Value::Text(a), Value::Text(b)]) => Some(Ok(Value::text(format!("{a}{b}")))),
        ("_+_", [Value::Bytes(a), Value::Bytes(b)]) => Some(Ok(Value::Bytes([&**a, &**b].concat().into()))),
        ("_+_", [Value::List(a), Value::List(b)]) => {
            if let Err(fault) = budget.spend((a.items.len() + b.items.len()) as u64) {
                return Some(Err(fault));
            }
            Some(Ok(Value::List(Arc::new(add_lists(a, b)))))
        }
        ("@in", [item, Value::List(list)]) => {
            if let Err(fault) = budget.spend(list.items.len() as u64) {
                return Some(Err(fault));
            }
            truth(list.items.contains(item))
        }
        ("@in", [item, Value::Map(map)]) => truth(item.key().is_some_and(|k| map.entries.contains_key(&k))),
        ("size", [Value::Text(text)]) => Some(Ok(length(text.chars().count()))),
        ("size", [Value::Bytes(bytes)]) => Some(Ok(length(bytes.len()))),
        ("size", [Value::List(list)]) => Some(Ok(length(list.items.len()))),
        ("size", [Value::Map(map)]) => Some(Ok(length(map.entries.len()))),
        ("optional.of", [value]) => Some(Ok(Value::some(value.clone()))),
        ("optional.ofNonZeroValue", [value]) => {
            Some(Ok(if is_zero(value) { Value::Optional(None) } else { Value::some(value.clone()) }))
        }
        ("optional.none", []) => Some(Ok(Value::Optional(None))),
        ("hasValue", [Value::Optional(inner)]) => truth(inner.is_some()),
        ("value", [Value::Optional(inner)]) => match inner {
            Some(value) => Some(Ok((**value).clone())),
            None => failed("optional.none() dereference"),
        },
        ("or", [Value::Optional(inner), other]) => {
            Some(Ok(if inner.is_some() { Value::Optional(inner.clone()) } else { other.clone() }))
        }
        ("orValue", [Value::Optional(inner), other]) => {
            Some(Ok(inner.as_ref().map_or_else(|| other.clone(), |v| (**v).clone())))
        }
        _ => None,
    }
}

/// A length as number.
pub fn length(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn whole(n: Option<i64>) -> Result<Value, Fault> {
    n.map(Value::Int).ok_or_else(|| Fault::Failed("integer overflow".into()))
}

fn unsigned(n: Option<u64>) -> Result<Value, Fault> {
    n.map(Value::Uint).ok_or_else(|| Fault::Failed("unsigned integer overflow".into()))
}

fn order(a: &Value, b: &Value, holds: impl Fn(Ordering) -> bool) -> Result<Value, Fault> {
    let same_kind = a.type_name() == b.type_name();
    match a.compare(b) {
        Some(order) => Ok(Value::Bool(holds(order))),
        // NaN has no order
        None if same_kind && matches!(a, Value::Double(_)) => Ok(Value::Bool(false)),
        None => Fault::new("no such overload"),
    }
}

/// Comparing lists whose order means nothing looks at every pair.
fn compare_cost(a: &Value, b: &Value, budget: &mut Budget) -> Result<(), Fault> {
    match (a, b) {
        (Value::List(x), Value::List(y)) if x.order != Order::Matters => {
            budget.spend((x.items.len() * y.items.len()) as u64)
        }
        (Value::List(x), _) => budget.spend(x.items.len() as u64),
        _ => Ok(()),
    }
}

/// Sets and keyed lists are united; of elements with the same key the right one stays, in its place on the left.
fn add_lists(a: &List, b: &List) -> List {
    let mut items = a.items.clone();
    match &a.order {
        Order::Matters => items.extend(b.items.iter().cloned()),
        Order::Set => {
            for item in &b.items {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
        Order::Keyed(keys) => {
            for item in &b.items {
                match items.iter_mut().find(|x| same_keys(x, item, keys)) {
                    Some(slot) => *slot = item.clone(),
                    None => items.push(item.clone()),
                }
            }
        }
    }
    List { items, order: a.order.clone() }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(n) => *n == 0,
        Value::Uint(n) => *n == 0,
        Value::Double(n) => *n == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.items.is_empty(),
        Value::Map(map) => map.entries.is_empty(),
        Value::Duration(span) => span.is_zero(),
        Value::Optional(inner) => inner.is_none(),
        _ => false,
    }
}
