//! The steps of a body.

use std::borrow::Cow;

use super::rules::unique;
use super::walk::{Ran, entry, length};
use super::with::put_back;
use super::{Evaluator, Flow, Held, Mock, Next, Solved};
use crate::rego::builtins;
use crate::rego::limits::Stop;
use crate::rego::plan::{Base, Function, Kind, Op, Pattern, Step, Term};
use crate::rego::value::Value;

impl<'v> Evaluator<'v> {
    pub(super) fn run(&mut self, steps: &'v [Step], frame: &mut [Held<'v>], next: Next<'_, 'v>) -> Solved {
        for (at, step) in steps.iter().enumerate() {
            match self.step(step, &steps[at + 1..], frame, next) {
                Ok(Ran::Held) => {}
                Ok(Ran::Failed) => return Ok(Flow::Go),
                Ok(Ran::Through(flow)) => return Ok(flow),
                Err(stop) => {
                    self.place.get_or_insert((self.file, step.line));
                    return Err(stop);
                }
            }
        }
        next(self, frame)
    }

    fn step(
        &mut self,
        step: &'v Step,
        rest: &'v [Step],
        frame: &mut [Held<'v>],
        next: Next<'_, 'v>,
    ) -> Result<Ran, Stop> {
        self.budget.step()?;
        let held = match &step.op {
            Op::Walk { base, path, out } => {
                let value = match base {
                    Base::Place(place) => self.document.get(*place).map(Cow::Borrowed),
                    Base::Slot(slot) => frame.get(*slot).cloned(),
                    Base::Rule(rule) => self.value_of(*rule)?,
                    Base::Data => Some(Cow::Owned(self.data.clone().unwrap_or_else(|| Value::object(Vec::new())))),
                };
                match value {
                    None => self.noted(step, false, None),
                    Some(value) => return self.walk(value, path, out, step, rest, frame, next),
                }
            }
            Op::Call { function, arguments, out } => match self.call(*function, arguments, frame)? {
                Some(value) => self.found(step, out, &value, frame)?,
                None => self.noted(step, false, None),
            },
            Op::Match { term, out } => {
                let value = self.term(term, frame)?;
                self.found(step, out, &value, frame)?
            }
            Op::Build { slot, kind, key, value, body } => {
                let built = self.build(*kind, key, value, body, frame)?;
                if let Some(place) = frame.get_mut(*slot) {
                    *place = Cow::Owned(built);
                }
                true
            }
            Op::Not(body) => {
                let held = !self.any(body, frame)?;
                self.noted(step, held, None)
            }
            Op::Every { domain, key, value, body } => {
                let held = self.every(domain, *key, *value, body, frame)?;
                self.noted(step, held, None)
            }
            Op::Each { collection, key, value } => {
                let collection = self.term(collection, frame)?;
                for at in 0..length(&collection) {
                    self.budget.step()?;
                    let Some((k, v)) = entry(&collection, at) else { break };
                    let key_fits = match key {
                        Some(key) => self.matches(key, &k, frame)?,
                        None => true,
                    };
                    if key_fits && self.found(step, value, &v, frame)? && self.run(rest, frame, next)? == Flow::Enough {
                        return Ok(Ran::Through(Flow::Enough));
                    }
                }
                return Ok(Ran::Through(Flow::Go));
            }
            Op::Descend { term, out } => {
                let value = self.term(term, frame)?;
                let mut found = Vec::new();
                self.descend(&value, &mut Vec::new(), &mut found)?;
                for pair in found {
                    let pair = Cow::Owned(pair);
                    if self.found(step, out, &pair, frame)? && self.run(rest, frame, next)? == Flow::Enough {
                        return Ok(Ran::Through(Flow::Enough));
                    }
                }
                return Ok(Ran::Through(Flow::Go));
            }
            Op::With { changes, body, bound } => {
                for solution in self.with(changes, body, bound, frame)? {
                    put_back(bound, solution, frame);
                    if self.run(rest, frame, next)? == Flow::Enough {
                        return Ok(Ran::Through(Flow::Enough));
                    }
                }
                return Ok(Ran::Through(Flow::Go));
            }
        };
        Ok(Ran::from(held))
    }

    /// Matches what a step has found, and notes it where the evaluation is watched.
    pub(super) fn found(
        &mut self,
        step: &Step,
        out: &'v Pattern,
        value: &Held<'v>,
        frame: &mut [Held<'v>],
    ) -> Result<bool, Stop> {
        let held = self.matches(out, value, frame)?;
        Ok(self.noted(step, held, Some(value)))
    }

    fn every(
        &mut self,
        domain: &'v Term,
        key: Option<usize>,
        value: usize,
        body: &'v [Step],
        frame: &mut [Held<'v>],
    ) -> Result<bool, Stop> {
        let domain = self.term(domain, frame)?;
        for at in 0..length(&domain) {
            let Some((k, v)) = entry(&domain, at) else { break };
            if let Some(place) = key.and_then(|key| frame.get_mut(key)) {
                *place = k;
            }
            if let Some(place) = frame.get_mut(value) {
                *place = v;
            }
            if !self.any(body, frame)? {
                return Ok(false);
            }
        }
        Ok(matches!(domain.as_ref(), Value::Array(_) | Value::Set(_) | Value::Object(_)))
    }

    fn build(
        &mut self,
        kind: Kind,
        key: &'v Term,
        value: &'v Term,
        body: &'v [Step],
        frame: &mut [Held<'v>],
    ) -> Result<Value, Stop> {
        let mut items = Vec::new();
        let mut members = Vec::new();
        self.run(body, frame, &mut |this, frame| {
            this.budget.charge(48)?;
            let mut owned = |term| Ok::<_, Stop>(this.term(term, frame)?.into_owned());
            match kind {
                Kind::Object => members.push((owned(key)?, owned(value)?)),
                Kind::Set => items.push(owned(key)?),
                _ => items.push(owned(value)?),
            }
            Ok(Flow::Go)
        })?;
        match kind {
            Kind::Object => unique("the comprehension", members),
            Kind::Set => Ok(Value::set(items)),
            _ => Ok(Value::array(items)),
        }
    }

    fn call(&mut self, function: Function, terms: &'v [Term], frame: &[Held<'v>]) -> Result<Option<Held<'v>>, Stop> {
        match terms {
            [a] => {
                let arguments = [self.term(a, frame)?];
                self.apply(function, &arguments)
            }
            [a, b] => {
                let arguments = [self.term(a, frame)?, self.term(b, frame)?];
                self.apply(function, &arguments)
            }
            terms => {
                let arguments: Vec<_> = terms.iter().map(|term| self.term(term, frame)).collect::<Result<_, _>>()?;
                self.apply(function, &arguments)
            }
        }
    }

    fn apply(&mut self, function: Function, arguments: &[Held<'v>]) -> Result<Option<Held<'v>>, Stop> {
        if let Some((_, mock)) = self.mocks.iter().find(|(mocked, _)| *mocked == function) {
            let mock = match mock {
                Mock::Value(value) => return Ok(Some(value.clone())),
                Mock::Function(function) => *function,
            };
            // what takes a function's place may call that
            let mocks = std::mem::take(&mut self.mocks);
            let result = self.apply(mock, arguments);
            self.mocks = mocks;
            return result;
        }
        let builtin = match function {
            Function::Builtin(builtin) => builtin,
            Function::Rule(rule) => {
                let program = self.program;
                let Some(set) = program.rules.get(rule) else { return Ok(None) };
                self.budget.enter()?;
                let found = self.single(set, arguments)?;
                self.budget.leave();
                return Ok(found);
            }
        };
        let result = match arguments {
            [a] => builtins::call(builtin, &mut self.budget, &[a.as_ref()]),
            [a, b] => builtins::call(builtin, &mut self.budget, &[a.as_ref(), b.as_ref()]),
            arguments => {
                let arguments: Vec<&Value> = arguments.iter().map(AsRef::as_ref).collect();
                builtins::call(builtin, &mut self.budget, &arguments)
            }
        };
        Ok(result?.map(Cow::Owned))
    }

    pub(super) fn term(&mut self, term: &'v Term, frame: &[Held<'v>]) -> Result<Held<'v>, Stop> {
        Ok(match term {
            Term::Const(value) => Cow::Borrowed(value),
            Term::Slot(slot) => frame.get(*slot).cloned().unwrap_or_default(),
            Term::Array(items) => Cow::Owned(Value::array(self.terms(items, frame)?)),
            Term::Set(items) => Cow::Owned(Value::set(self.terms(items, frame)?)),
            Term::Object(members) => {
                self.budget.charge(24 + members.len() * 48)?;
                let mut pairs = Vec::with_capacity(members.len());
                for (key, value) in members {
                    pairs.push((self.term(key, frame)?.into_owned(), self.term(value, frame)?.into_owned()));
                }
                Cow::Owned(Value::object(pairs))
            }
        })
    }

    fn terms(&mut self, items: &'v [Term], frame: &[Held<'v>]) -> Result<Vec<Value>, Stop> {
        self.budget.charge(24 + items.len() * 24)?;
        items.iter().map(|item| Ok(self.term(item, frame)?.into_owned())).collect()
    }

    pub(super) fn matches(
        &mut self,
        pattern: &'v Pattern,
        value: &Held<'v>,
        frame: &mut [Held<'v>],
    ) -> Result<bool, Stop> {
        Ok(match pattern {
            Pattern::Holds => value.holds(),
            Pattern::Bind(slot) => {
                if let Some(place) = frame.get_mut(*slot) {
                    *place = value.clone();
                }
                true
            }
            Pattern::Equal(Term::Const(wanted)) => wanted == value.as_ref(),
            Pattern::Equal(Term::Slot(slot)) => frame.get(*slot) == Some(value),
            Pattern::Equal(term) => self.term(term, frame)? == *value,
            Pattern::Array(patterns) => match value.as_ref() {
                Value::Array(items) if items.len() == patterns.len() => {
                    for (at, pattern) in patterns.iter().enumerate() {
                        let Some((_, item)) = entry(value, at) else { return Ok(false) };
                        if !self.matches(pattern, &item, frame)? {
                            return Ok(false);
                        }
                    }
                    true
                }
                _ => false,
            },
            Pattern::Object(patterns) => match value.as_ref() {
                Value::Object(members) if members.len() == patterns.len() => {
                    for (key, pattern) in patterns {
                        let key = self.term(key, frame)?;
                        let Some(member) = super::walk::part(value, |value| value.get(&key)) else { return Ok(false) };
                        if !self.matches(pattern, &member, frame)? {
                            return Ok(false);
                        }
                    }
                    true
                }
                _ => false,
            },
        })
    }

    /// The pairs of path and value that `walk` gives.
    fn descend(&mut self, value: &Held<'v>, path: &mut Vec<Value>, found: &mut Vec<Value>) -> Result<(), Stop> {
        self.budget.step()?;
        self.budget.charge(128 + path.len() * 24)?;
        found.push(Value::array(vec![Value::array(path.clone()), value.as_ref().clone()]));
        for at in 0..length(value) {
            let Some((key, inner)) = entry(value, at) else { break };
            path.push(key.into_owned());
            self.descend(&inner, path, found)?;
            path.pop();
        }
        Ok(())
    }
}
