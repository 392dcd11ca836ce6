//! Kubernetes' lists library and cel-go's sets.

use std::cmp::Ordering;

use jiff::SignedDuration;

use super::super::eval::{Budget, Fault};
use super::super::value::Value;
use super::operators::length;
use super::{Answer, truth};

pub fn call(name: &str, args: &[Value], budget: &mut Budget) -> Answer {
    let (Value::List(list), rest) = args.split_first()? else { return None };
    let items = &list.items;
    // all of these look at every element, those of two lists at every pair
    let other = match rest {
        [Value::List(other)] => other.items.len(),
        _ => 1,
    };
    if let Err(fault) = budget.spend((items.len() * other.max(1)) as u64) {
        return Some(Err(fault));
    }
    match (name, rest) {
        ("isSorted", []) => truth(items.windows(2).all(|pair| match pair {
            [a, b] => a.compare(b) != Some(Ordering::Greater),
            _ => true,
        })),
        ("sum", []) => Some(sum(items)),
        ("min", []) => Some(extreme(items, Ordering::Less, "min")),
        ("max", []) => Some(extreme(items, Ordering::Greater, "max")),
        ("indexOf", [item]) => Some(Ok(items.iter().position(|x| x == item).map_or(Value::Int(-1), length))),
        ("lastIndexOf", [item]) => Some(Ok(items.iter().rposition(|x| x == item).map_or(Value::Int(-1), length))),
        ("sets.contains", [Value::List(b)]) => truth(b.items.iter().all(|x| items.contains(x))),
        ("sets.equivalent", [Value::List(b)]) => {
            truth(b.items.iter().all(|x| items.contains(x)) && items.iter().all(|x| b.items.contains(x)))
        }
        ("sets.intersects", [Value::List(b)]) => truth(b.items.iter().any(|x| items.contains(x))),
        _ => None,
    }
}

fn sum(items: &[Value]) -> Result<Value, Fault> {
    let overflow = || Fault::Failed("integer overflow".into());
    let mut sum: Option<Value> = None;
    for item in items {
        sum = Some(match (sum, item) {
            (None, item) => item.clone(),
            (Some(Value::Int(a)), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
            (Some(Value::Uint(a)), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(overflow)?),
            (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
            (Some(Value::Duration(a)), Value::Duration(b)) => {
                Value::Duration(a.checked_add(*b).unwrap_or(SignedDuration::MAX))
            }
            _ => return Fault::new("no such overload"),
        });
    }
    Ok(sum.unwrap_or(Value::Int(0)))
}

fn extreme(items: &[Value], wanted: Ordering, name: &str) -> Result<Value, Fault> {
    let Some((first, rest)) = items.split_first() else {
        return Fault::new(format!("{name} called on empty list"));
    };
    let best = rest.iter().fold(first, |best, item| if item.compare(best) == Some(wanted) { item } else { best });
    Ok(best.clone())
}
