//! Semantic versions, read as leniently as OPA's library does: `01.2.3` is one.

use std::cmp::Ordering;

use super::{Builtin, ours, yes};
use crate::rego::value::Value;

pub const ALL: &[Builtin] = &[
    ours("semver.is_valid", 1, |_, a| yes(a[0].as_str().and_then(Version::read).is_some())),
    ours("semver.compare", 2, |_, a| {
        let version =
            |value: &'_ Value| value.as_str().and_then(Version::read).map(|v| (v.numbers, v.before.map(str::to_owned)));
        let (Some(left), Some(right)) = (version(a[0]), version(a[1])) else { return Ok(None) };
        let order = left.0.cmp(&right.0).then_with(|| before(left.1.as_deref(), right.1.as_deref()));
        Ok(Some(Value::int(order as i64)))
    }),
];

struct Version<'t> {
    numbers: [i64; 3],
    /// What comes before the release: `rc.1`.
    before: Option<&'t str>,
}

impl<'t> Version<'t> {
    fn read(text: &'t str) -> Option<Self> {
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        let (text, before) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = text.splitn(3, '.');
        let mut number = || whole(parts.next()?);
        let numbers = [number()?, number()?, number()?];
        let identifiers = |text: &str| {
            text.is_empty()
                || text.split('.').all(|part| {
                    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
        };
        (identifiers(before) && identifiers(build))
            .then_some(Self { numbers, before: Some(before).filter(|text| !text.is_empty()) })
    }
}

/// A number with or without a sign, as Go reads it.
fn whole(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Compares what comes before the release; the release itself comes after all of it.
fn before(left: Option<&str>, right: Option<&str>) -> Ordering {
    let (left, right) = match (left, right) {
        (None, None) => return Ordering::Equal,
        (None, Some(_)) => return Ordering::Greater,
        (Some(_), None) => return Ordering::Less,
        (Some(left), Some(right)) => (left, right),
    };
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let (a, b) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        // numbers come before words
        let order = match (whole(a), whole(b)) {
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => x.cmp(&y).then_with(|| a.cmp(b)),
            (None, None) => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}
