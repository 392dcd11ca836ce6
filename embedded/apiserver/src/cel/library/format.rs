//! `'…'.format([…])`, and named formats.

use std::sync::LazyLock;

use regex::Regex;

use super::super::eval::Fault;
use super::super::eval::of_key;
use super::super::signatures::FORMATS;
use super::super::value::Value;
use super::convert::{double, plain};
use super::{Answer, time};

pub fn call(name: &str, args: &[Value]) -> Answer {
    match (name, args) {
        ("format", [Value::Text(form), Value::List(values)]) => Some(fill(form, &values.items)),
        ("format.named", [Value::Text(wanted)]) => {
            let found = FORMATS.iter().find(|f| **f == &**wanted);
            Some(Ok(found.map_or(Value::Optional(None), |f| Value::some(Value::Format(f)))))
        }
        ("validate", [Value::Format(format), Value::Text(text)]) => Some(Ok(match fault(format, text) {
            None => Value::Optional(None),
            Some(why) => Value::some(Value::list(vec![Value::text(why)])),
        })),
        (name, []) => {
            let found = FORMATS.iter().find(|f| name.strip_prefix("format.") == Some(**f))?;
            Some(Ok(Value::Format(found)))
        }
        _ => None,
    }
}

fn fill(form: &str, values: &[Value]) -> Result<Value, Fault> {
    let (mut out, mut chars, mut next) = (String::new(), form.chars().peekable(), 0);
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            precision = digits.parse::<usize>().ok().map(|p| p.min(1000));
        }
        let Some(verb) = chars.next() else {
            return Fault::new("could not parse formatting clause: unexpected end of string");
        };
        let Some(value) = values.get(next) else { return Fault::new(format!("index {next} out of range")) };
        next += 1;
        out.push_str(&clause(verb, precision, value)?);
    }
    Ok(Value::text(out))
}

fn clause(verb: char, precision: Option<usize>, value: &Value) -> Result<String, Fault> {
    let refuse = |what: &str| {
        Fault::new(format!(
            "error during formatting: {what} clause can only be used on numbers, was given {}",
            value.type_name()
        ))
    };
    #[expect(clippy::cast_precision_loss, reason = "as CEL formats them")]
    let number = match value {
        Value::Int(n) => Some(*n as f64),
        Value::Uint(n) => Some(*n as f64),
        Value::Double(n) => Some(*n),
        _ => None,
    };
    Ok(match (verb, value) {
        ('s', value) => show(value, false),
        ('d', Value::Int(n)) => n.to_string(),
        ('d', Value::Uint(n)) => n.to_string(),
        ('d', Value::Double(n)) => double(*n),
        ('d', _) => return refuse("decimal"),
        ('f', _) => match number {
            Some(n) => format!("{n:.*}", precision.unwrap_or(6)),
            None => return refuse("fixed-point"),
        },
        ('e', _) => match number {
            Some(n) => {
                let text = format!("{n:.*e}", precision.unwrap_or(6));
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
                format!("{digits}e{sign}{size:0>2}")
            }
            None => return refuse("scientific"),
        },
        ('b', Value::Int(n)) => format!("{}{:b}", if *n < 0 { "-" } else { "" }, n.unsigned_abs()),
        ('b', Value::Uint(n)) => format!("{n:b}"),
        ('b', Value::Bool(b)) => u8::from(*b).to_string(),
        ('o', Value::Int(n)) => format!("{}{:o}", if *n < 0 { "-" } else { "" }, n.unsigned_abs()),
        ('o', Value::Uint(n)) => format!("{n:o}"),
        ('x', Value::Int(n)) => format!("{}{:x}", if *n < 0 { "-" } else { "" }, n.unsigned_abs()),
        ('X', Value::Int(n)) => format!("{}{:X}", if *n < 0 { "-" } else { "" }, n.unsigned_abs()),
        ('x', Value::Uint(n)) => format!("{n:x}"),
        ('X', Value::Uint(n)) => format!("{n:X}"),
        ('x', Value::Text(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('x', Value::Bytes(bytes)) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        ('b' | 'o' | 'x' | 'X', _) => {
            return Fault::new(format!(
                "error during formatting: only integers can be formatted so, was given {}",
                value.type_name()
            ));
        }
        (other, _) => {
            return Fault::new(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{other}\""
            ));
        }
    })
}

/// As `%s` writes a value; text inside of lists and maps is quoted.
fn show(value: &Value, inside: bool) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Text(text) if inside => format!("\"{text}\""),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::List(list) => {
            format!("[{}]", list.items.iter().map(|v| show(v, true)).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entries = map.entries.iter().map(|(k, v)| format!("{}:{}", show(&of_key(k), true), show(v, true)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Timestamp(moment) if inside => format!("timestamp(\"{}\")", time::show_moment(moment)),
        Value::Duration(span) if inside => format!("duration(\"{}\")", time::show_span(span)),
        Value::Type(name) => (*name).into(),
        other => plain(other).unwrap_or_else(|| other.type_name().into()),
    }
}

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const OLD_LABEL_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok());
static OLD_LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^[a-z]([-a-z0-9]*[a-z0-9])?$").ok());
static SUBDOMAIN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok());
static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$").ok());

fn is(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|r| r.is_match(text))
}

/// Why the text does not have the format.
fn fault(format: &str, text: &str) -> Option<String> {
    use base64::Engine as _;
    let shaped = |regex: &LazyLock<Option<Regex>>, text: &str, most: usize, rule: &str| {
        if text.len() > most {
            return Some(format!("must be no more than {most} bytes"));
        }
        (!is(regex, text)).then(|| rule.to_string())
    };
    let prefix = text.strip_suffix('-').unwrap_or(text);
    let when = |holds: bool, why: &str| (!holds).then(|| why.to_string());
    match format {
        "dns1123Label" => shaped(&LABEL, text, 63, LABEL_RULE),
        "dns1123Subdomain" => shaped(&SUBDOMAIN, text, 253, SUBDOMAIN_RULE),
        "dns1035Label" => shaped(&OLD_LABEL, text, 63, OLD_LABEL_RULE),
        "dns1123LabelPrefix" => shaped(&LABEL, prefix, 63, LABEL_RULE),
        "dns1123SubdomainPrefix" => shaped(&SUBDOMAIN, prefix, 253, SUBDOMAIN_RULE),
        "dns1035LabelPrefix" => shaped(&OLD_LABEL, prefix, 63, OLD_LABEL_RULE),
        "labelValue" if text.is_empty() => None,
        "labelValue" => shaped(&WORD, text, 63, VALUE_RULE),
        "qualifiedName" => match text.split_once('/') {
            Some((space, name)) => {
                shaped(&SUBDOMAIN, space, 253, SUBDOMAIN_RULE).or_else(|| shaped(&WORD, name, 63, NAME_RULE))
            }
            None => shaped(&WORD, text, 63, NAME_RULE),
        },
        "uri" => when(super::url::parse(text).is_some(), "invalid URI"),
        "uuid" => when(uuid::Uuid::parse_str(text).is_ok(), "does not match the UUID format"),
        "byte" => when(base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64"),
        "date" => when(text.parse::<jiff::civil::Date>().is_ok(), "invalid date"),
        _ => when(time::parse_moment(text).is_some(), "invalid datetime"),
    }
}
