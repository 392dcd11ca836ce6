//! References: following a path into a value, and the entries of collections.

use std::borrow::Cow;

use super::{Evaluator, Flow, Held, Next};
use crate::rego::limits::Stop;
use crate::rego::plan::{Key, Pattern, Step, Term};
use crate::rego::value::Value;

/// How a step ended.
pub(super) enum Ran {
    Held,
    Failed,
    /// It ran the rest of the body itself.
    Through(Flow),
}

impl Ran {
    pub(super) fn from(held: bool) -> Self {
        if held { Ran::Held } else { Ran::Failed }
    }
}

impl<'v> Evaluator<'v> {
    /// Follows a path; at an unbound key the rest of the body runs for each entry.
    #[expect(clippy::too_many_arguments, reason = "the state of one step")]
    pub(super) fn walk(
        &mut self,
        base: Held<'v>,
        path: &'v [Key],
        out: &'v Pattern,
        step: &'v Step,
        rest: &'v [Step],
        frame: &mut [Held<'v>],
        next: Next<'_, 'v>,
    ) -> Result<Ran, Stop> {
        let mut at = base;
        for (index, key) in path.iter().enumerate() {
            let found = match key {
                Key::Const(key) => part(&at, |value| value.get(key)),
                Key::Term(Term::Slot(slot)) => frame.get(*slot).and_then(|key| part(&at, |value| value.get(key))),
                Key::Term(term) => {
                    let key = self.term(term, frame)?;
                    part(&at, |value| value.get(&key))
                }
                Key::Bind(_) | Key::Pattern(_) => {
                    for number in 0..length(&at) {
                        self.budget.step()?;
                        let Some((k, v)) = entry(&at, number) else { break };
                        let fits = match key {
                            Key::Bind(slot) => {
                                if let Some(place) = frame.get_mut(*slot) {
                                    *place = k;
                                }
                                true
                            }
                            Key::Pattern(pattern) => self.matches(pattern, &k, frame)?,
                            _ => false,
                        };
                        if !fits {
                            continue;
                        }
                        match self.walk(v, &path[index + 1..], out, step, rest, frame, next)? {
                            Ran::Through(Flow::Enough) => return Ok(Ran::Through(Flow::Enough)),
                            Ran::Held if self.run(rest, frame, next)? == Flow::Enough => {
                                return Ok(Ran::Through(Flow::Enough));
                            }
                            _ => {}
                        }
                    }
                    return Ok(Ran::Through(Flow::Go));
                }
            };
            match found {
                Some(value) => at = value,
                None => return Ok(Ran::from(self.noted(step, false, None))),
            }
        }
        Ok(Ran::from(self.found(step, out, &at, frame)?))
    }
}

/// A part of a value: borrowed where that is.
pub(super) fn part<'v>(
    value: &Held<'v>,
    pick: impl for<'a> FnOnce(&'a Value) -> Option<&'a Value>,
) -> Option<Held<'v>> {
    match value {
        Cow::Borrowed(value) => pick(value).map(Cow::Borrowed),
        Cow::Owned(value) => pick(value).cloned().map(Cow::Owned),
    }
}

pub(super) fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) | Value::Set(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

/// The key and the value of an entry by its number.
pub(super) fn entry<'v>(value: &Held<'v>, at: usize) -> Option<(Held<'v>, Held<'v>)> {
    let item = |value| {
        part(value, |value| match value {
            Value::Array(items) | Value::Set(items) => items.get(at),
            Value::Object(members) => members.get(at).map(|(_, value)| value),
            _ => None,
        })
    };
    let key = match value.as_ref() {
        Value::Array(_) => Cow::Owned(Value::int(at as i64)),
        Value::Object(_) => part(value, |value| match value {
            Value::Object(members) => members.get(at).map(|(key, _)| key),
            _ => None,
        })?,
        _ => item(value)?,
    };
    Some((key, item(value)?))
}
