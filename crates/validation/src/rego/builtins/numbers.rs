//! Arithmetic and aggregates.

use super::{Builtin, Outcome, ours};
use crate::rego::limits::Budget;
use crate::rego::value::{Number, Value};

pub const ALL: &[Builtin] = &[
    ours("plus", 2, |_, a| arithmetic(a, i128::checked_add, added)),
    ours("minus", 2, minus),
    ours("mul", 2, |_, a| arithmetic(a, i128::checked_mul, multiplied)),
    ours("div", 2, |_, a| {
        let Some((x, y)) = pair(a) else { return Ok(None) };
        if y.float() == 0.0 {
            return Ok(None);
        }
        if let (Some(x), Some(y)) = (x.integral(), y.integral()) {
            if x % y == 0 {
                return number(Number::wide(x / y));
            }
        }
        computed(x.float() / y.float())
    }),
    ours("rem", 2, |_, a| match pair(a).and_then(|(x, y)| Some((x.integral()?, y.integral()?))) {
        Some((x, y)) if y != 0 => number(Number::wide(x % y)),
        _ => Ok(None),
    }),
    ours("round", 1, |_, a| rounded(a, f64::round)),
    // OPA 1.8.0 asks for the sign of the whole part, which -0.5 has none of: its ceiling is 1, its floor 0
    ours("ceil", 1, |_, a| rounded(a, |x| if x.trunc() < 0.0 || x.trunc() == x { x.trunc() } else { x.trunc() + 1.0 })),
    ours("floor", 1, |_, a| {
        rounded(a, |x| if x.trunc() >= 0.0 || x.trunc() == x { x.trunc() } else { x.trunc() - 1.0 })
    }),
    ours("bits.and", 2, |_, a| bits(a, |x, y| Some(x & y))),
    ours("bits.or", 2, |_, a| bits(a, |x, y| Some(x | y))),
    ours("bits.xor", 2, |_, a| bits(a, |x, y| Some(x ^ y))),
    ours("bits.negate", 1, |_, a| match a[0] {
        Value::Number(x) => x.integral().map_or(Ok(None), |x| number(Number::wide(!x))),
        _ => Ok(None),
    }),
    ours("bits.lsh", 2, |_, a| {
        // exact as long as all bits are kept
        bits(a, |x, by| x.checked_shl(u32::try_from(by).ok()?).filter(|shifted| shifted >> by == x))
    }),
    ours("bits.rsh", 2, |_, a| bits(a, |x, by| Some(x >> u32::try_from(by).ok()?.min(127)))),
    ours("abs", 1, |_, a| match &a[0] {
        Value::Number(n) => match n.integer() {
            Some(i) => number(Number::wide(i.abs())),
            None => computed(n.float().abs()),
        },
        _ => Ok(None),
    }),
    ours("sum", 1, |_, a| fold(&a[0], Number::Int(0), i128::checked_add, added)),
    ours("product", 1, |_, a| fold(&a[0], Number::Int(1), i128::checked_mul, multiplied)),
    ours("to_number", 1, |_, a| match &a[0] {
        Value::Null => number(Number::Int(0)),
        Value::Bool(value) => number(Number::Int(i64::from(*value))),
        Value::Number(value) => number(value.clone()),
        Value::String(text) => Ok(parse(text).map(Value::Number)),
        _ => Ok(None),
    }),
    ours("numbers.range", 2, |budget, a| {
        let Some((from, to)) = pair(a).and_then(|(x, y)| Some((x.integral()?, y.integral()?))) else { return Ok(None) };
        range(budget, from, to, 1)
    }),
    ours("numbers.range_step", 3, |budget, a| {
        let bounds = pair(a).and_then(|(x, y)| Some((x.integral()?, y.integral()?)));
        let (Some((from, to)), Value::Number(step)) = (bounds, &a[2]) else { return Ok(None) };
        match step.integral() {
            Some(step) if step > 0 => range(budget, from, to, step),
            _ => Ok(None),
        }
    }),
    ours("format_int", 2, |_, a| {
        let Some((value, base)) = pair(a) else { return Ok(None) };
        let whole = value.integral().unwrap_or(value.float() as i128);
        let digits = match base.integral() {
            Some(2) => format!("{:b}", whole.unsigned_abs()),
            Some(8) => format!("{:o}", whole.unsigned_abs()),
            Some(10) => format!("{}", whole.unsigned_abs()),
            Some(16) => format!("{:x}", whole.unsigned_abs()),
            _ => return Ok(None),
        };
        Ok(Some(Value::string(if whole < 0 { format!("-{digits}") } else { digits })))
    }),
];

fn number(value: Number) -> Outcome {
    Ok(Some(Value::Number(value)))
}

fn bits(arguments: &[&Value], work: fn(i128, i128) -> Option<i128>) -> Outcome {
    let whole = pair(arguments).and_then(|(x, y)| Some((x.integral()?, y.integral()?)));
    whole.and_then(|(x, y)| work(x, y)).map_or(Ok(None), |result| number(Number::wide(result)))
}

fn computed(value: f64) -> Outcome {
    Ok(Number::computed(value).map(Value::Number))
}

fn pair<'a>(arguments: &[&'a Value]) -> Option<(&'a Number, &'a Number)> {
    match arguments {
        [Value::Number(x), Value::Number(y), ..] => Some((x, y)),
        _ => None,
    }
}

fn arithmetic(arguments: &[&Value], whole: fn(i128, i128) -> Option<i128>, float: fn(f64, f64) -> f64) -> Outcome {
    let Some((x, y)) = pair(arguments) else { return Ok(None) };
    combine(x, y, whole, float).map_or(Ok(None), number)
}

fn combine(
    x: &Number,
    y: &Number,
    whole: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
) -> Option<Number> {
    if let (Some(x), Some(y)) = (x.integral(), y.integral()) {
        if let Some(result) = whole(x, y) {
            return Some(Number::wide(result));
        }
    }
    Number::computed(float(x.float(), y.float()))
}

fn added(x: f64, y: f64) -> f64 {
    decimal(x, y, false).unwrap_or(x + y)
}

fn multiplied(x: f64, y: f64) -> f64 {
    decimal(x, y, true).unwrap_or(x * y)
}

/// Adds and multiplies decimal fractions as such, as OPA does: 0.1 + 0.2 is 0.3.
fn decimal(x: f64, y: f64, multiply: bool) -> Option<f64> {
    let (a, b) = (digits(x)?, digits(y)?);
    let (mantissa, exponent) = if multiply {
        (a.0.checked_mul(b.0)?, a.1 + b.1)
    } else {
        let low = a.1.min(b.1);
        let scale = |(mantissa, exponent): (i128, i32)| {
            mantissa.checked_mul(10i128.checked_pow(u32::try_from(exponent - low).ok()?)?)
        };
        (scale(a)?.checked_add(scale(b)?)?, low)
    };
    format!("{mantissa}e{exponent}").parse().ok()
}

/// The shortest decimal digits of a float, and their exponent.
fn digits(value: f64) -> Option<(i128, i32)> {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
    Some((digits.replace('.', "").parse().ok()?, exponent - fraction))
}

fn minus(budget: &mut Budget, arguments: &[&Value]) -> Outcome {
    match arguments {
        [Value::Set(left), Value::Set(right)] => {
            budget.charge(left.len() * 24)?;
            let rest = left.iter().filter(|item| right.binary_search(item).is_err()).cloned().collect();
            Ok(Some(Value::Set(std::sync::Arc::new(rest))))
        }
        _ => arithmetic(arguments, i128::checked_sub, |x, y| added(x, -y)),
    }
}

fn rounded(arguments: &[&Value], how: fn(f64) -> f64) -> Outcome {
    match &arguments[0] {
        Value::Number(value) => match value.integer() {
            Some(_) => number(value.clone()),
            None => computed(how(value.float())),
        },
        _ => Ok(None),
    }
}

fn fold(
    collection: &Value,
    start: Number,
    whole: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> f64,
) -> Outcome {
    let (Value::Array(items) | Value::Set(items)) = collection else { return Ok(None) };
    let mut total = start;
    for item in items.iter() {
        let Value::Number(item) = item else { return Ok(None) };
        match combine(&total, item, whole, float) {
            Some(next) => total = next,
            None => return Ok(None),
        }
    }
    number(total)
}

/// Reads a number as `to_number` does: JSON's syntax only.
fn parse(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Ok(value) = text.parse::<i128>() {
        return Some(Number::wide(value));
    }
    serde_json::from_str::<serde_json::Number>(text).ok()?.as_f64().map(Number::Float)
}

fn range(budget: &mut Budget, from: i128, to: i128, step: i128) -> Outcome {
    let count = (from.abs_diff(to) / step.unsigned_abs()).saturating_add(1);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    budget.charge(count.saturating_mul(24))?;
    let items = (0..count as i128)
        .map(|i| Value::Number(Number::wide(if from <= to { from + i * step } else { from - i * step })))
        .collect();
    Ok(Some(Value::array(items)))
}
