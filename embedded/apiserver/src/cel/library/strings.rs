//! Text: the standard's members, cel-go's strings extension (version 2), Kubernetes' regular expressions.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use regex::Regex;

use super::super::eval::Fault;
use super::super::value::Value;
use super::operators::length;
use super::{Answer, failed, truth};

/// Compiled expressions that are kept; a rule's pattern is nearly always a constant.
const KEPT: usize = 256;

static PATTERNS: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

/// The compiled pattern.
pub fn pattern(source: &str) -> Result<Regex, Fault> {
    let mut kept = PATTERNS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(regex) = kept.get(source) {
        return Ok(regex.clone());
    }
    let regex = regex::RegexBuilder::new(source)
        .size_limit(1 << 20)
        .build()
        .map_err(|_| Fault::Failed(format!("error parsing regexp: `{source}`")))?;
    if kept.len() >= KEPT {
        kept.clear();
    }
    kept.insert(source.to_string(), regex.clone());
    Ok(regex)
}

pub fn call(name: &str, member: bool, args: &[Value]) -> Answer {
    use Value::{Int, Text};
    let texts = |found: Vec<&str>| Some(Ok(Value::list(found.into_iter().map(Value::text).collect())));
    let text = |text: String| Some(Ok(Value::text(text)));
    match (name, args) {
        ("startsWith", [Text(a), Text(b)]) => truth(a.starts_with(&**b)),
        ("endsWith", [Text(a), Text(b)]) => truth(a.ends_with(&**b)),
        ("contains", [Text(a), Text(b)]) => truth(a.contains(&**b)),
        ("matches", [Text(a), Text(p)]) => Some(pattern(p).map(|p| Value::Bool(p.is_match(a)))),
        ("find", [Text(a), Text(p)]) => {
            Some(pattern(p).map(|p| Value::text(p.find(a).map(|m| m.as_str()).unwrap_or_default())))
        }
        ("findAll", [Text(a), Text(p)]) => Some(pattern(p).map(|p| find_all(a, &p, usize::MAX))),
        ("findAll", [Text(a), Text(p), Int(n)]) => {
            Some(pattern(p).map(|p| find_all(a, &p, usize::try_from(*n).unwrap_or(usize::MAX))))
        }
        ("lowerAscii", [Text(a)]) => text(a.to_ascii_lowercase()),
        ("upperAscii", [Text(a)]) => text(a.to_ascii_uppercase()),
        ("trim", [Text(a)]) => text(a.trim().to_string()),
        ("replace", [Text(a), Text(old), Text(new)]) => text(a.replace(&**old, new)),
        ("replace", [Text(a), Text(old), Text(new), Int(n)]) => {
            text(usize::try_from(*n).map_or_else(|_| a.replace(&**old, new), |n| a.replacen(&**old, new, n)))
        }
        ("split", [Text(a), Text(by)]) => texts(split(a, by, usize::MAX)),
        ("split", [Text(_), Text(_), Int(0)]) => texts(Vec::new()),
        ("split", [Text(a), Text(by), Int(n)]) => texts(split(a, by, usize::try_from(*n).unwrap_or(usize::MAX))),
        ("charAt", [Text(a), Int(n)]) => {
            let count = a.chars().count();
            match usize::try_from(*n) {
                Ok(n) if n <= count => text(a.chars().nth(n).map(String::from).unwrap_or_default()),
                _ => failed(format!("index out of range: {n}")),
            }
        }
        ("substring", [Text(a), Int(from)]) => Some(cut(a, *from, a.chars().count() as i64)),
        ("substring", [Text(a), Int(from), Int(to)]) => Some(cut(a, *from, *to)),
        ("indexOf", [Text(a), Text(b)]) => Some(Ok(index(a, b, 0))),
        ("indexOf", [Text(a), Text(b), Int(from)]) => match usize::try_from(*from) {
            Ok(from) if from <= a.chars().count() => Some(Ok(index(a, b, from))),
            _ => failed(format!("index out of range: {from}")),
        },
        ("lastIndexOf", [Text(a), Text(b)]) => Some(Ok(last_index(a, b, usize::MAX))),
        ("lastIndexOf", [Text(a), Text(b), Int(until)]) => match usize::try_from(*until) {
            Ok(until) if until <= a.chars().count() => Some(Ok(last_index(a, b, until))),
            _ => failed(format!("index out of range: {until}")),
        },
        ("join", [Value::List(list)]) if member => Some(join(&list.items, "")),
        ("join", [Value::List(list), Text(by)]) => Some(join(&list.items, by)),
        ("strings.quote", [Text(a)]) => text(quote(a)),
        _ => None,
    }
}

fn find_all(text: &str, pattern: &Regex, most: usize) -> Value {
    Value::list(pattern.find_iter(text).take(most).map(|m| Value::text(m.as_str())).collect())
}

fn split<'a>(text: &'a str, by: &str, most: usize) -> Vec<&'a str> {
    if by.is_empty() {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if found.len() + 1 == most {
                break;
            }
            let (first, tail) = rest.split_at(c.len_utf8());
            found.push(first);
            rest = tail;
        }
        if !rest.is_empty() {
            found.push(rest);
        }
        return found;
    }
    text.splitn(most, by).collect()
}

fn cut(text: &str, from: i64, to: i64) -> Result<Value, Fault> {
    let count = text.chars().count() as i64;
    if from < 0 || from > count {
        return Fault::new(format!("index out of range: {from}"));
    }
    if to < 0 || to > count {
        return Fault::new(format!("index out of range: {to}"));
    }
    if from > to {
        return Fault::new(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let (skip, take) = (usize::try_from(from).unwrap_or(0), usize::try_from(to - from).unwrap_or(0));
    Ok(Value::text(text.chars().skip(skip).take(take).collect::<String>()))
}

/// Position in characters of `needle` at or after the character `from`; -1 when absent.
fn index(text: &str, needle: &str, from: usize) -> Value {
    let start = text.char_indices().nth(from).map_or(text.len(), |(at, _)| at);
    match text[start..].find(needle) {
        Some(at) => length(text[..start + at].chars().count()),
        None => Value::Int(-1),
    }
}

fn last_index(text: &str, needle: &str, until: usize) -> Value {
    let found = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .enumerate()
        .filter(|(n, at)| *n <= until && text[*at..].starts_with(needle))
        .map(|(n, _)| n)
        .last();
    found.map_or(Value::Int(-1), length)
}

fn join(items: &[Value], by: &str) -> Result<Value, Fault> {
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        let Value::Text(text) = item else { return Fault::new("no such overload") };
        texts.push(&**text);
    }
    Ok(Value::text(texts.join(by)))
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
