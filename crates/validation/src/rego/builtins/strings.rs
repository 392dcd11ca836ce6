//! Strings, regular expressions and JSON texts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use regex::Regex;

use super::{Builtin, Outcome, ours, yes};
use crate::rego::letters;
use crate::rego::limits::{Budget, Stop};
use crate::rego::pattern;
use crate::rego::sprintf;
use crate::rego::value::Value;

pub const ALL: &[Builtin] = &[
    ours("contains", 2, |_, a| two(a, |x, y| yes(x.contains(y)))),
    ours("startswith", 2, |_, a| two(a, |x, y| yes(x.starts_with(y)))),
    ours("endswith", 2, |_, a| two(a, |x, y| yes(x.ends_with(y)))),
    ours("strings.any_prefix_match", 2, |_, a| any_match(a, |x, y| x.starts_with(y))),
    ours("strings.any_suffix_match", 2, |_, a| any_match(a, |x, y| x.ends_with(y))),
    ours("lower", 1, |b, a| one(b, a, letters::lower)),
    ours("upper", 1, |b, a| one(b, a, letters::upper)),
    ours("trim_space", 1, |b, a| one(b, a, |x| x.trim().to_owned())),
    ours("strings.reverse", 1, |b, a| one(b, a, |x| x.chars().rev().collect())),
    ours("trim", 2, |b, a| trimmed(b, a, |x, set| x.trim_matches(|c| set.contains(c)))),
    ours("trim_left", 2, |b, a| trimmed(b, a, |x, set| x.trim_start_matches(|c| set.contains(c)))),
    ours("trim_right", 2, |b, a| trimmed(b, a, |x, set| x.trim_end_matches(|c| set.contains(c)))),
    ours("trim_prefix", 2, |b, a| trimmed(b, a, |x, y| x.strip_prefix(y).unwrap_or(x))),
    ours("trim_suffix", 2, |b, a| trimmed(b, a, |x, y| x.strip_suffix(y).unwrap_or(x))),
    ours("concat", 2, concat),
    ours("split", 2, |budget, a| {
        let (Some(text), Some(by)) = (a[0].as_str(), a[1].as_str()) else { return Ok(None) };
        budget.charge(text.len() * 2 + 64)?;
        let parts: Vec<Value> = if by.is_empty() {
            budget.charge(text.len() * 40)?;
            text.chars().map(|c| Value::string(c.to_string())).collect()
        } else {
            let count = text.matches(by).count() + 1;
            budget.charge(count * 40)?;
            text.split(by).map(Value::string).collect()
        };
        Ok(Some(Value::array(parts)))
    }),
    ours("replace", 3, |budget, a| {
        let (Some(text), Some(old), Some(new)) = (a[0].as_str(), a[1].as_str(), a[2].as_str()) else { return Ok(None) };
        replaced(budget, text, old, new).map(|text| Some(Value::string(text)))
    }),
    ours("strings.replace_n", 2, |budget, a| {
        let (Value::Object(pairs), Some(text)) = (&a[0], a[1].as_str()) else { return Ok(None) };
        let mut text = text.to_owned();
        for (old, new) in pairs.iter() {
            let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else { return Ok(None) };
            text = replaced(budget, &text, old, new)?;
        }
        Ok(Some(Value::string(text)))
    }),
    ours("strings.count", 2, |_, a| {
        two(a, |x, y| {
            let count = if y.is_empty() { x.chars().count() + 1 } else { x.matches(y).count() };
            Ok(Some(Value::int(count as i64)))
        })
    }),
    ours("indexof", 2, |_, a| {
        two(a, |x, y| {
            if y.is_empty() {
                return Ok(None);
            }
            Ok(Some(Value::int(x.find(y).map_or(-1, |at| x[..at].chars().count() as i64))))
        })
    }),
    ours("indexof_n", 2, |budget, a| {
        two(a, |x, y| {
            if y.is_empty() {
                return Ok(None);
            }
            budget.charge(x.len() * 4)?;
            // overlapping finds count too
            let found = x.char_indices().enumerate().filter(|(_, (at, _))| x[*at..].starts_with(y));
            Ok(Some(Value::array(found.map(|(i, _)| Value::int(i as i64)).collect())))
        })
    }),
    ours("substring", 3, |budget, a| {
        let (Some(text), Value::Number(from), Value::Number(length)) = (a[0].as_str(), &a[1], &a[2]) else {
            return Ok(None);
        };
        let (Some(from), Some(length)) = (from.integral(), length.integral()) else { return Ok(None) };
        let Ok(from) = usize::try_from(from) else { return Ok(None) };
        budget.charge(text.len())?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some(Value::string(text.chars().skip(from).take(length).collect::<String>())))
    }),
    ours("sprintf", 2, |budget, a| {
        let (Some(format), Value::Array(items)) = (a[0].as_str(), &a[1]) else { return Ok(None) };
        match sprintf::sprintf(format, items, budget.left()) {
            Some(text) => {
                budget.charge(text.len() + 32)?;
                Ok(Some(Value::string(text)))
            }
            None => budget.charge(usize::MAX).map(|()| None),
        }
    }),
    ours("regex.match", 2, |_, a| matching(a, |regex, text| yes(regex.is_match(text)))),
    ours("regex.is_valid", 1, |_, a| yes(a[0].as_str().is_some_and(|pattern| compiled(pattern).is_some()))),
    ours("regex.split", 2, |budget, a| {
        matching(a, |regex, text| {
            budget.charge(text.len() * 40 + 64)?;
            Ok(Some(Value::array(split(regex, text).into_iter().map(Value::string).collect())))
        })
    }),
    ours("regex.find_n", 3, |budget, a| {
        let Some(most) = limit(&a[2]) else { return Ok(None) };
        matching(&a[..2], |regex, text| {
            budget.charge(text.len() * 40 + 64)?;
            Ok(Some(Value::array(regex.find_iter(text).take(most).map(|m| Value::string(m.as_str())).collect())))
        })
    }),
    ours("regex.find_all_string_submatch_n", 3, |budget, a| {
        let Some(most) = limit(&a[2]) else { return Ok(None) };
        matching(&a[..2], |regex, text| {
            budget.charge((text.len() + 1) * 40 * regex.captures_len())?;
            let groups = |found: regex::Captures<'_>| {
                Value::array(found.iter().map(|g| Value::string(g.map_or("", |g| g.as_str()))).collect())
            };
            Ok(Some(Value::array(regex.captures_iter(text).take(most).map(groups).collect())))
        })
    }),
    ours("regex.replace", 3, |budget, a| {
        let (Some(text), Some(pattern), Some(new)) = (a[0].as_str(), a[1].as_str(), a[2].as_str()) else {
            return Ok(None);
        };
        let Some(regex) = compiled(pattern) else { return Ok(None) };
        budget.charge((text.len() + 1) * (new.len() + 1))?;
        Ok(Some(Value::string(regex.replace_all(text, new).into_owned())))
    }),
    ours("json.marshal", 1, |budget, a| {
        let text = serde_json::to_string(&a[0]).unwrap_or_default();
        budget.charge(text.len())?;
        // Go writes JSON that can stand in HTML and in JavaScript
        let text =
            [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")]
                .into_iter()
                .fold(
                    text,
                    |text, (letter, escape)| if text.contains(letter) { text.replace(letter, escape) } else { text },
                );
        Ok(Some(Value::string(text)))
    }),
    ours("json.unmarshal", 1, |budget, a| {
        let Some(text) = a[0].as_str() else { return Ok(None) };
        budget.charge(text.len() * 16)?;
        Ok(serde_json::from_str(text).ok())
    }),
    ours("json.is_valid", 1, |_, a| {
        yes(a[0].as_str().is_some_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()))
    }),
];

fn two(arguments: &[&Value], work: impl FnOnce(&str, &str) -> Outcome) -> Outcome {
    match arguments {
        [Value::String(x), Value::String(y)] => work(x, y),
        _ => Ok(None),
    }
}

fn one(budget: &mut Budget, arguments: &[&Value], work: impl FnOnce(&str) -> String) -> Outcome {
    let Some(text) = arguments[0].as_str() else { return Ok(None) };
    budget.charge(text.len() * 2 + 32)?;
    Ok(Some(Value::string(work(text))))
}

fn trimmed(budget: &mut Budget, arguments: &[&Value], work: impl for<'t> FnOnce(&'t str, &str) -> &'t str) -> Outcome {
    let (Some(text), Some(what)) = (arguments[0].as_str(), arguments[1].as_str()) else { return Ok(None) };
    budget.charge(text.len() + 32)?;
    Ok(Some(Value::string(work(text, what))))
}

fn any_match(arguments: &[&Value], holds: fn(&str, &str) -> bool) -> Outcome {
    let texts = |value: &Value| -> Option<Vec<Arc<str>>> {
        match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) | Value::Set(items) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    };
    let (Some(left), Some(right)) = (texts(&arguments[0]), texts(&arguments[1])) else { return Ok(None) };
    yes(left.iter().any(|x| right.iter().any(|y| holds(x, y))))
}

fn concat(budget: &mut Budget, arguments: &[&Value]) -> Outcome {
    let (Some(between), Value::Array(items) | Value::Set(items)) = (arguments[0].as_str(), &arguments[1]) else {
        return Ok(None);
    };
    let mut length = between.len() * items.len();
    for item in items.iter() {
        let Some(text) = item.as_str() else { return Ok(None) };
        length += text.len();
    }
    budget.charge(length + 32)?;
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    Ok(Some(Value::string(texts.join(between))))
}

fn replaced(budget: &mut Budget, text: &str, old: &str, new: &str) -> Result<String, Stop> {
    let count = if old.is_empty() { text.len() + 1 } else { text.matches(old).count() };
    budget.charge(count.saturating_mul(new.len()).saturating_add(text.len() + 32))?;
    Ok(text.replace(old, new))
}

/// How many are wanted: all when negative.
fn limit(value: &Value) -> Option<usize> {
    let Value::Number(number) = value else { return None };
    number.integral().map(|most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// The parts between the matches, as Go's `Split`: an empty match at the beginning or the end parts nothing.
fn split<'t>(regex: &Regex, text: &'t str) -> Vec<&'t str> {
    if text.is_empty() {
        return vec![""];
    }
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in regex.find_iter(text) {
        end = found.start();
        if found.end() != 0 {
            parts.push(&text[begin..end]);
        }
        begin = found.end();
    }
    if end != text.len() {
        parts.push(&text[begin..]);
    }
    parts
}

fn matching(arguments: &[&Value], work: impl FnOnce(&Regex, &str) -> Outcome) -> Outcome {
    let (Some(pattern), Some(text)) = (arguments[0].as_str(), arguments[1].as_str()) else { return Ok(None) };
    compiled(pattern).map_or(Ok(None), |regex| work(&regex, text))
}

/// How many compiled expressions a thread keeps.
const KEPT: usize = 256;

thread_local! {
    // a copy of an expression would begin without the states that the first has found
    static COMPILED: RefCell<HashMap<String, Option<Rc<Regex>>>> = RefCell::new(HashMap::new());
}

fn compiled(pattern: &str) -> Option<Rc<Regex>> {
    COMPILED.with_borrow_mut(|kept| {
        if let Some(found) = kept.get(pattern) {
            return found.clone();
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        let regex = pattern::translate(pattern)
            .and_then(|pattern| regex::RegexBuilder::new(&pattern).size_limit(1 << 20).build().ok())
            .map(Rc::new);
        kept.insert(pattern.to_owned(), regex.clone());
        regex
    })
}
