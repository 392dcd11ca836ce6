//! Semantic versions (<https://semver.org>).

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::eval::Fault;
use super::super::value::Value;
use super::{Answer, truth};

/// A version in its parts; build metadata does not count.
#[derive(Debug)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
}

impl Semver {
    fn parse(text: &str, normalize: bool) -> Option<Self> {
        let text = if normalize { text.trim().trim_start_matches('v') } else { text };
        let (text, _build) = text.split_once('+').unwrap_or((text, ""));
        let (core, pre) = text.split_once('-').map_or((text, None), |(c, p)| (c, Some(p)));
        let mut parts: Vec<&str> = core.split('.').collect();
        while normalize && parts.len() < 3 {
            parts.push("0");
        }
        let [a, b, c] = parts.as_slice() else { return None };
        let number = |part: &str| {
            let part = if normalize && part.len() > 1 { part.trim_start_matches('0') } else { part };
            let part = if part.is_empty() && normalize { "0" } else { part };
            let sound =
                !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            sound.then(|| part.parse().ok()).flatten()
        };
        let pre: Vec<String> = pre.map(|p| p.split('.').map(String::from).collect()).unwrap_or_default();
        let sound = |p: &String| {
            let numeric = p.chars().all(|c| c.is_ascii_digit());
            !p.is_empty()
                && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !(numeric && p.len() > 1 && p.starts_with('0'))
        };
        pre.iter().all(sound).then_some(())?;
        Some(Self { numbers: [number(a)?, number(b)?, number(c)?], pre })
    }

    /// Order of precedence.
    pub fn compare(&self, other: &Self) -> Ordering {
        let by_pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre);
                let first = pairs.map(|(a, b)| part(a, b)).find(|o| *o != Ordering::Equal);
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then(by_pre)
    }
}

fn part(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

pub fn call(name: &str, args: &[Value]) -> Answer {
    use Value::Semver as S;
    let number = |n: u64| Some(Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX))));
    let read = |text: &str, normalize: bool| match Semver::parse(text, normalize) {
        Some(version) => Ok(S(Arc::new(version))),
        None => Fault::new(format!("{text:?} is not a semantic version")),
    };
    match (name, args) {
        ("semver", [Value::Text(text)]) => Some(read(text, false)),
        ("semver", [Value::Text(text), Value::Bool(normalize)]) => Some(read(text, *normalize)),
        ("isSemver", [Value::Text(text)]) => truth(Semver::parse(text, false).is_some()),
        ("isSemver", [Value::Text(text), Value::Bool(normalize)]) => truth(Semver::parse(text, *normalize).is_some()),
        ("isGreaterThan", [S(a), S(b)]) => truth(a.compare(b) == Ordering::Greater),
        ("isLessThan", [S(a), S(b)]) => truth(a.compare(b) == Ordering::Less),
        ("compareTo", [S(a), S(b)]) => Some(Ok(Value::Int(a.compare(b) as i64))),
        ("major", [S(a)]) => number(a.numbers[0]),
        ("minor", [S(a)]) => number(a.numbers[1]),
        ("patch", [S(a)]) => number(a.numbers[2]),
        _ => None,
    }
}
