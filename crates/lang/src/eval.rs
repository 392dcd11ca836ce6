//! The value of an expression for an item.
//!
//! A list on the left side is gone through: `disks.capacity > 1Gi` is a list of
//! booleans, of which `any` or `all` make one.

use std::cmp::Ordering;

use crate::EvalError;
use crate::expression::{Binary, Node, NodeKind, Unary};
use crate::path::Item;
use crate::pattern::Pattern;
use crate::value::Value;

/// How errors and odd values are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As the original.
    Strict,
    /// As users mean it: see [`crate::Expression::evaluate`].
    Lenient,
}

type Evaluated = Result<Value, EvalError>;

pub(crate) fn evaluate(node: &Node, item: &dyn Item, mode: Mode) -> Evaluated {
    let at = node.position;
    match &node.kind {
        NodeKind::Literal(value) => Ok(value.clone()),
        NodeKind::Name(path, _) => Ok(Value::of(&path.find(item))),
        NodeKind::List(nodes) => {
            nodes.iter().map(|node| evaluate(node, item, mode)).collect::<Result<_, _>>().map(Value::List)
        }
        NodeKind::Unary(operator, value) => unary(*operator, evaluate(value, item, mode)?, at, mode),
        NodeKind::IsNull(value) => each(evaluate(value, item, mode)?, &|v| Ok(Value::Bool(v == Value::Null))),
        NodeKind::Matches { negated, value, pattern } => {
            let value = evaluate(value, item, mode)?;
            each(value, &|v| matches(&v, pattern, at).map(|fits| Value::Bool(fits != *negated)))
        }
        NodeKind::Between(value, low, high) => {
            let high = evaluate(high, item, mode)?;
            let low = evaluate(low, item, mode)?;
            each(evaluate(value, item, mode)?, &|v| between(&v, &low, &high, at, mode))
        }
        NodeKind::Binary(..) => chain(node, item, mode),
    }
}

/// Evaluates operators from left to right in a loop: chains of hundreds are usual, and stacks are small.
fn chain(node: &Node, item: &dyn Item, mode: Mode) -> Evaluated {
    let (mut steps, mut first) = (Vec::new(), node);
    while let NodeKind::Binary(operator, left, right) = &first.kind {
        steps.push((*operator, right, first.position));
        first = left;
    }
    let mut value = evaluate(first, item, mode)?;
    while let Some((operator, right, at)) = steps.pop() {
        let decided = match operator {
            Binary::And => value == Value::Bool(false),
            Binary::Or => value == Value::Bool(true),
            _ => false,
        };
        if decided && mode == Mode::Lenient {
            continue;
        }
        let right = evaluate(right, item, mode)?;
        value = each(value, &|v| binary(operator, v, &right, at, mode))?;
    }
    Ok(value)
}

/// Applies to a value, or to all elements of a list and of the lists in it.
fn each(value: Value, apply: &dyn Fn(Value) -> Evaluated) -> Evaluated {
    match value {
        Value::List(list) => list.into_iter().map(|v| each(v, apply)).collect::<Result<_, _>>().map(Value::List),
        value => apply(value),
    }
}

fn mismatch(wanted: &str, found: &Value, at: usize) -> EvalError {
    EvalError::new(format!("type mismatch: {wanted} is expected, not {}", found.kind()), at)
}

fn binary(operator: Binary, left: Value, right: &Value, at: usize, mode: Mode) -> Evaluated {
    let truth = match operator {
        Binary::Equal => equal(&left, right),
        Binary::Unequal => !equal(&left, right),
        Binary::Less => compare(&left, right, at)?.is_some_and(Ordering::is_lt),
        Binary::LessOrEqual => compare(&left, right, at)?.is_some_and(Ordering::is_le),
        Binary::Greater => compare(&left, right, at)?.is_some_and(Ordering::is_gt),
        Binary::GreaterOrEqual => compare(&left, right, at)?.is_some_and(Ordering::is_ge),
        Binary::Regex => matches_any(&left, right, Pattern::regex, at)?,
        Binary::NotRegex => !matches_any(&left, right, Pattern::regex, at)?,
        Binary::Like => matches_any(&left, right, |text| Ok(Pattern::like(text)), at)?,
        Binary::Ilike => matches_any(&left, right, |text| Ok(Pattern::ilike(text)), at)?,
        Binary::In => within(&left, right, at, mode)?,
        Binary::And => truth(&left, at)? & truth(right, at)?,
        Binary::Or => truth(&left, at)? | truth(right, at)?,
        Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Remainder => {
            return arithmetic(operator, &left, right, at);
        }
    };
    Ok(Value::Bool(truth))
}

fn truth(value: &Value, at: usize) -> Result<bool, EvalError> {
    match value {
        Value::Bool(value) => Ok(*value),
        other => Err(mismatch("a boolean", other, at)),
    }
}

fn number(value: &Value, at: usize) -> Result<f64, EvalError> {
    match value {
        Value::Number(value) => Ok(*value),
        other => Err(mismatch("a number", other, at)),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a == b,
        (Value::Text(_) | Value::Time(_), Value::Text(_) | Value::Time(_)) => match (left.instant(), right.instant()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((left, right), (Value::Text(a), Value::Text(b)) if a == b),
        },
        _ => false,
    }
}

/// Compares; `None` where one side is null or no number.
fn compare(left: &Value, right: &Value, at: usize) -> Result<Option<Ordering>, EvalError> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Number(a), Value::Number(b)) => return Ok(a.partial_cmp(b)),
        _ => {}
    }
    if let (Some(a), Some(b)) = (left.instant(), right.instant()) {
        return Ok(Some(a.cmp(&b)));
    }
    match (left, right) {
        (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
        _ => {
            let (left, right) = (left.kind(), right.kind());
            Err(EvalError::new(format!("type mismatch: {left} cannot be compared with {right}"), at))
        }
    }
}

fn matches(value: &Value, pattern: &Pattern, at: usize) -> Result<bool, EvalError> {
    match value {
        Value::Null => Ok(false),
        Value::Text(text) => Ok(pattern.fits(text)),
        other => Err(mismatch("a string", other, at)),
    }
}

fn matches_any(
    value: &Value,
    pattern: &Value,
    make: fn(&str) -> Result<Pattern, String>,
    at: usize,
) -> Result<bool, EvalError> {
    match (value, pattern) {
        (Value::Null, _) | (_, Value::Null) => Ok(false),
        (Value::Text(_), Value::Text(text)) => matches(value, &make(text).map_err(|e| EvalError::new(e, at))?, at),
        (Value::Text(_), other) | (other, _) => Err(mismatch("a string", other, at)),
    }
}

fn within(value: &Value, list: &Value, at: usize, mode: Mode) -> Result<bool, EvalError> {
    let Value::List(list) = list else {
        return Err(mismatch("a list", list, at));
    };
    Ok(match value {
        Value::Null => false,
        Value::Object | Value::List(_) => return Err(mismatch("a string, number, time or boolean", value, at)),
        value if mode == Mode::Lenient => list.iter().any(|candidate| equal(value, candidate)),
        // no text is read as a time here
        value => list.contains(value),
    })
}

fn between(value: &Value, low: &Value, high: &Value, at: usize, mode: Mode) -> Evaluated {
    let inside = match (value, low, high) {
        (Value::Number(value), Value::Number(low), Value::Number(high)) => low <= value && value <= high,
        (Value::Time(value), Value::Time(low), Value::Time(high)) => low <= value && value <= high,
        (Value::Null, ..) if mode == Mode::Lenient => false,
        _ => match (value.instant(), low.instant(), high.instant()) {
            (Some(value), Some(low), Some(high)) if mode == Mode::Lenient => low <= value && value <= high,
            _ => {
                let odd = match value {
                    Value::Number(_) if !matches!(low, Value::Number(_)) => low,
                    Value::Number(_) => high,
                    Value::Time(_) if !matches!(low, Value::Time(_)) => low,
                    Value::Time(_) => high,
                    value => value,
                };
                return Err(mismatch("numbers or times in BETWEEN", odd, at));
            }
        },
    };
    Ok(Value::Bool(inside))
}

fn arithmetic(operator: Binary, left: &Value, right: &Value, at: usize) -> Evaluated {
    let (left, right) = (number(left, at)?, number(right, at)?);
    let zero = |what: &str| Err(EvalError::new(format!("{what} by zero"), at));
    Ok(Value::Number(match operator {
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide if right == 0.0 => return zero("division"),
        Binary::Divide => left / right,
        _ => {
            #[expect(clippy::cast_possible_truncation, reason = "the language cuts both sides to whole numbers")]
            let (left, right) = (left as i64, right as i64);
            match right {
                0 => return zero("modulus"),
                right => left.wrapping_rem(right) as f64,
            }
        }
    }))
}

fn unary(operator: Unary, value: Value, at: usize, mode: Mode) -> Evaluated {
    match (operator, value) {
        (Unary::Any, Value::List(list)) => Ok(Value::Bool(list.contains(&Value::Bool(true)))),
        (Unary::All, Value::List(list)) => {
            Ok(Value::Bool(!list.is_empty() && list.iter().all(|v| *v == Value::Bool(true))))
        }
        (Unary::Len, Value::List(list)) => Ok(Value::Number(list.len() as f64)),
        (Unary::Sum, Value::List(list)) => {
            list.iter().try_fold(0.0, |sum, v| Ok(sum + number(v, at)?)).map(Value::Number)
        }
        (Unary::Any | Unary::All, Value::Null) if mode == Mode::Lenient => Ok(Value::Bool(false)),
        (Unary::Len | Unary::Sum, Value::Null) if mode == Mode::Lenient => Ok(Value::Number(0.0)),
        (Unary::Any | Unary::All | Unary::Len | Unary::Sum, other) => {
            let name = format!("{operator:?}").to_uppercase();
            Err(EvalError::new(format!("type mismatch: {name} needs a list, not {}", other.kind()), at))
        }
        // through one level only, as the original
        (operator, Value::List(list)) => {
            list.into_iter().map(|v| single(operator, &v, at)).collect::<Result<_, _>>().map(Value::List)
        }
        (operator, value) => single(operator, &value, at),
    }
}

fn single(operator: Unary, value: &Value, at: usize) -> Evaluated {
    match operator {
        Unary::Not => truth(value, at).map(|value| Value::Bool(!value)),
        _ => number(value, at).map(|value| Value::Number(-value)),
    }
}
