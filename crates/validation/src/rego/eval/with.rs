//! `with`: a body with other documents, or with other functions.

use std::borrow::Cow;

use super::{Evaluator, Flow, Held, Known, Mock, mock};
use crate::rego::document::Document;
use crate::rego::limits::Stop;
use crate::rego::plan::{New, Step, Target};
use crate::rego::value::Value;

impl<'v> Evaluator<'v> {
    /// Solves a body with other documents; what it binds is returned for each solution.
    pub(super) fn with(
        &mut self,
        changes: &'v [(Target, New)],
        body: &'v [Step],
        bound: &'v [usize],
        frame: &mut [Held<'v>],
    ) -> Result<Vec<Vec<Value>>, Stop> {
        let mut input: Option<Value> = None;
        let mut data = self.data.clone();
        let mut known = Known::nothing(self.program);
        let mut mocks = self.mocks.clone();
        for (target, new) in changes {
            let value = mock(self, new, frame)?;
            match (target, value) {
                (Target::Function(function), value) => mocks.insert(0, (*function, value)),
                (_, Mock::Function(_)) => {}
                (Target::Input(path), Mock::Value(value)) => {
                    // the compiler has seen to it that all of the input was kept
                    let whole = input.take().or_else(|| self.document.get(0).cloned());
                    input = Some(replaced(whole.unwrap_or_default(), path, value.into_owned()));
                }
                (Target::Data(path), Mock::Value(value)) => {
                    let whole = data.take().unwrap_or_else(|| Value::object(Vec::new()));
                    data = Some(replaced(whole, path, value.into_owned()));
                }
                (Target::Rule(rule), Mock::Value(value)) => known.put(*rule, Some(value)),
            }
        }
        let document = input.map(|input| Document::of(self.layout, &input));
        let mut slots: Vec<Held<'_>> = frame.to_vec();
        let mut inner = Evaluator {
            program: self.program,
            layout: self.layout,
            base: self.base,
            admission: self.admission,
            document: document.as_ref().unwrap_or(self.document),
            data,
            known,
            mocks,
            frames: Vec::new(),
            budget: self.budget,
            limits: self.limits,
            file: self.file,
            place: self.place,
            failures: std::mem::take(&mut self.failures),
            events: self.events.take(),
        };
        let mut solutions = Vec::new();
        let result = inner.run(body, &mut slots, &mut |this, frame| {
            this.budget.charge(24 + bound.len() * 24)?;
            let value = |slot: &usize| frame.get(*slot).map_or(Value::Null, |value| value.as_ref().clone());
            solutions.push(bound.iter().map(value).collect());
            Ok(Flow::Go)
        });
        self.budget = inner.budget;
        self.place = inner.place;
        self.failures = inner.failures;
        self.events = inner.events;
        result.map(|_| solutions)
    }
}

fn replaced(document: Value, path: &[Value], value: Value) -> Value {
    let Some((first, rest)) = path.split_first() else { return value };
    let mut members = match document {
        Value::Object(members) => members.to_vec(),
        _ => Vec::new(),
    };
    match members.iter_mut().find(|(key, _)| key == first) {
        Some((_, member)) => *member = replaced(member.clone(), rest, value),
        None => members.push((first.clone(), replaced(Value::object(Vec::new()), rest, value))),
    }
    Value::object(members)
}

/// The owned values of one solution, in their slots.
pub(super) fn put_back<'v>(bound: &[usize], solution: Vec<Value>, frame: &mut [Held<'v>]) {
    for (slot, value) in bound.iter().zip(solution) {
        if let Some(place) = frame.get_mut(*slot) {
            *place = Cow::Owned(value);
        }
    }
}
