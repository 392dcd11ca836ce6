//! Conversions between types.

use super::super::eval::Fault;
use super::super::value::Value;
use super::{Answer, failed, time};

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "ranges are checked"
)]
pub fn call(name: &str, args: &[Value]) -> Answer {
    let ([value] | [value, _]) = args else { return None };
    if args.len() != 1 {
        return None;
    }
    let overflow = || failed("range error");
    match (name, value) {
        ("dyn", value) => Some(Ok(value.clone())),
        ("type", value) => Some(Ok(Value::Type(value.type_name()))),
        ("int", Value::Int(_))
        | ("uint", Value::Uint(_))
        | ("double", Value::Double(_))
        | ("string", Value::Text(_))
        | ("bytes", Value::Bytes(_))
        | ("bool", Value::Bool(_)) => Some(Ok(value.clone())),
        ("int", Value::Uint(n)) => i64::try_from(*n).map_or_else(|_| overflow(), |n| Some(Ok(Value::Int(n)))),
        ("int", Value::Double(n)) if n.abs() < 9.2e18 => Some(Ok(Value::Int(*n as i64))),
        ("int" | "uint", Value::Double(n)) if !(0.0..1.8e19).contains(n) || name == "int" => overflow(),
        ("int", Value::Text(text)) => Some(number(text, "int", text.parse().ok().map(Value::Int))),
        ("int", Value::Timestamp(moment)) => Some(Ok(Value::Int(moment.as_second()))),
        ("int", Value::Duration(span)) => {
            i64::try_from(span.as_nanos()).map_or_else(|_| overflow(), |n| Some(Ok(Value::Int(n))))
        }
        ("uint", Value::Int(n)) => u64::try_from(*n).map_or_else(|_| overflow(), |n| Some(Ok(Value::Uint(n)))),
        ("uint", Value::Double(n)) => Some(Ok(Value::Uint(*n as u64))),
        ("uint", Value::Text(text)) => Some(number(text, "uint", text.parse().ok().map(Value::Uint))),
        ("double", Value::Int(n)) => Some(Ok(Value::Double(*n as f64))),
        ("double", Value::Uint(n)) => Some(Ok(Value::Double(*n as f64))),
        ("double", Value::Text(text)) => Some(number(text, "double", text.parse().ok().map(Value::Double))),
        ("bool", Value::Text(text)) => Some(match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Fault::new(format!("type conversion error from '{text}' to 'bool'")),
        }),
        ("bytes", Value::Text(text)) => Some(Ok(Value::Bytes(text.as_bytes().into()))),
        ("string", Value::Bytes(bytes)) => Some(match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Fault::new("invalid UTF-8 in bytes, cannot convert to string"),
        }),
        ("string", value) => plain(value).map(|text| Ok(Value::text(text))),
        _ => None,
    }
}

fn number(text: &str, kind: &str, parsed: Option<Value>) -> Result<Value, Fault> {
    parsed.map_or_else(|| Fault::new(format!("type conversion error from '{text}' to '{kind}'")), Ok)
}

/// The value as `string()` writes it.
pub fn plain(value: &Value) -> Option<String> {
    Some(match value {
        Value::Text(text) => text.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => double(*n),
        Value::Timestamp(moment) => time::show_moment(moment),
        Value::Duration(span) => time::show_span(span),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(address, bits) => format!("{address}/{bits}"),
        _ => return None,
    })
}

/// The shortest text of a floating point number.
pub fn double(n: f64) -> String {
    if n.is_infinite() {
        return if n > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if n != 0.0 && (n.abs() < 1e-4 || n.abs() >= 1e21) {
        let text = format!("{n:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                format!("{digits}e{sign}{size:0>2}")
            }
            None => text,
        };
    }
    n.to_string()
}
