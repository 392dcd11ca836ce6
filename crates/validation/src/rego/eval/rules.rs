//! Rules and functions: their definitions, one after the other, and what these say together.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Each, Evaluator, Failure, Flow, Held, NOTHING, Next, Solved};
use crate::rego::limits::Stop;
use crate::rego::plan::{BranchPlan, Definition, Kind, RuleSet, Step};
use crate::rego::value::Value;

impl<'v> Evaluator<'v> {
    /// Returns a rule's value; `None` when it is undefined.
    pub fn rule(&mut self, rule: usize) -> Result<Option<Value>, Stop> {
        Ok(self.value_of(rule)?.map(Cow::into_owned))
    }

    /// Returns what one definition of a set adds, without keeping it.
    pub fn definition(&mut self, rule: usize, index: usize) -> Result<Vec<Value>, Stop> {
        let mut members = Vec::new();
        if let Some(definition) = self.program.rules.get(rule).and_then(|set| set.definitions.get(index)) {
            self.members(definition, &mut members)?;
        }
        Ok(members)
    }

    pub(super) fn value_of(&mut self, rule: usize) -> Result<Option<Held<'v>>, Stop> {
        if let Some(known) = self.known.get(rule) {
            return Ok(known.cloned());
        }
        let program = self.program;
        let Some(set) = program.rules.get(rule) else { return Ok(None) };
        // whoever watches wants to see the constants too
        if let (None, Some(value)) = (&self.events, set.constant()) {
            return Ok(Some(Cow::Borrowed(value)));
        }
        self.budget.enter()?;
        let value = self.value_anew(rule, set)?;
        self.budget.leave();
        self.known.put(rule, value.clone());
        Ok(value)
    }

    fn value_anew(&mut self, rule: usize, set: &'v RuleSet) -> Result<Option<Held<'v>>, Stop> {
        match set.kind {
            Kind::Set => {
                let mut members = Vec::new();
                for (index, definition) in set.definitions.iter().enumerate() {
                    if set.isolated {
                        self.isolated(rule, index, definition, &mut members)?;
                    } else {
                        self.members(definition, &mut members)?;
                    }
                }
                Ok(Some(Cow::Owned(Value::set(members))))
            }
            Kind::Object => {
                let mut members: Vec<(Value, Value)> = Vec::new();
                for definition in &set.definitions {
                    self.solutions(definition, &[], &mut |this, key, value| {
                        this.budget.charge(96)?;
                        members.push((key.into_owned(), value.into_owned()));
                        Ok(Flow::Go)
                    })?;
                }
                unique(&set.name, members).map(|value| Some(Cow::Owned(value)))
            }
            Kind::Complete | Kind::Function(_) => self.single(set, &[]),
        }
    }

    /// The one value of a complete rule, or of a function for these arguments.
    pub(super) fn single(&mut self, set: &'v RuleSet, arguments: &[Held<'v>]) -> Result<Option<Held<'v>>, Stop> {
        let users = self.program.users;
        let mut found: Option<(Held<'v>, &Definition)> = None;
        for definition in &set.definitions {
            self.solutions(definition, arguments, &mut |this, _, value| match &found {
                Some((other, first)) if *other != value => {
                    // of two that disagree the user's is to blame
                    let users = |definition: &&Definition| definition.file as usize >= users;
                    let blamed = [definition, *first].into_iter().find(users).unwrap_or(definition);
                    this.place = Some((blamed.file, blamed.line));
                    let what = match set.kind {
                        Kind::Function(_) => "functions must not produce multiple outputs for same inputs",
                        _ => "complete rules must not produce multiple outputs",
                    };
                    Err(Stop::Conflict(format!("{what}: `{}` is {other} and {value}", set.name)))
                }
                Some(_) => Ok(Flow::Go),
                None => {
                    found = Some((value, definition));
                    Ok(if set.uniform { Flow::Enough } else { Flow::Go })
                }
            })?;
            if set.uniform && found.is_some() && self.events.is_none() {
                break;
            }
        }
        Ok(found.map(|(value, _)| value).or(set.default.as_ref().map(Cow::Borrowed)))
    }

    fn members(&mut self, definition: &'v Definition, members: &mut Vec<Value>) -> Result<(), Stop> {
        self.solutions(definition, &[], &mut |this, key, _| {
            this.budget.charge(24)?;
            members.push(key.into_owned());
            Ok(Flow::Go)
        })
    }

    /// Evaluates one definition of `concerns` within its own limits.
    fn isolated(
        &mut self,
        rule: usize,
        index: usize,
        definition: &'v Definition,
        members: &mut Vec<Value>,
    ) -> Result<(), Stop> {
        let users = definition.file as usize >= self.program.users;
        let depth = self.budget.depth();
        self.budget.refill();
        let before = members.len();
        let refused = if users { self.admission.and_then(|admission| admission((rule, index))) } else { None };
        let outcome = refused.map_or_else(|| self.members(definition, members), Err);
        let Err(stop) = outcome else { return Ok(()) };
        if !users && self.base.is_none() {
            return Err(stop);
        }
        members.truncate(before);
        self.budget.unwind(depth);
        self.budget.refill();
        // what broke it: the user's file where it stopped, else the definition's own
        let place = self.place.take().filter(|(file, _)| *file as usize >= self.program.users);
        let (file, line) = place.unwrap_or((definition.file, definition.line));
        let file = self.program.files.get(file as usize).cloned().unwrap_or_else(|| Arc::from(""));
        members.push(explanation(&file, line, &stop));
        self.failures.push(Failure { definition: (rule, index), file, line, stop });
        if let Some((base, false)) = self.base.map(|base| (base, users)) {
            // bundled files come first, so the definition and its places have the same numbers there
            let package = &self.program.rules[rule].package;
            let same = base.rule(package, &self.program.rules[rule].name);
            if let Some(definition) = same.and_then(|rule| base.rules[rule].definitions.get(index)) {
                let mut alone = Evaluator::new(base, self.layout, self.document, self.limits);
                alone.members(definition, members)?;
            }
        }
        Ok(())
    }

    /// Calls `each` with the key and value of every solution of a definition.
    fn solutions(
        &mut self,
        definition: &'v Definition,
        arguments: &[Held<'v>],
        each: Each<'_, 'v>,
    ) -> Result<(), Stop> {
        self.budget.step()?;
        let mut frame = self.frames.pop().unwrap_or_default();
        frame.resize(definition.slots, Cow::Borrowed(&NOTHING));
        for (pattern, argument) in definition.parameters.iter().zip(arguments) {
            if !self.matches(pattern, argument, &mut frame)? {
                frame.clear();
                self.frames.push(frame);
                return Ok(());
            }
        }
        let outer = std::mem::replace(&mut self.file, definition.file);
        let result = self.branches(definition, &mut frame, each);
        self.file = outer;
        frame.clear();
        self.frames.push(frame);
        result
    }

    fn branches(&mut self, definition: &'v Definition, frame: &mut [Held<'v>], each: Each<'_, 'v>) -> Result<(), Stop> {
        for branch in &definition.branches {
            let mut any = false;
            self.run(&branch.steps, frame, &mut |this, frame| {
                any = true;
                if this.events.is_some() {
                    this.event(branch.line, 0, true, None);
                }
                let BranchPlan { key, value, once, .. } = branch;
                let (key, value) = (this.term(key, frame)?, this.term(value, frame)?);
                let flow = each(this, key, value)?;
                Ok(if *once { Flow::Enough } else { flow })
            })?;
            if any {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn any(&mut self, body: &'v [Step], frame: &mut [Held<'v>]) -> Result<bool, Stop> {
        let mut found = false;
        let next: Next<'_, 'v> = &mut |_, _| -> Solved {
            found = true;
            Ok(Flow::Enough)
        };
        self.run(body, frame, next)?;
        Ok(found)
    }
}

/// An object, unless a key has two values.
pub(super) fn unique(name: &str, mut members: Vec<(Value, Value)>) -> Result<Value, Stop> {
    members.sort();
    members.dedup();
    match members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            Err(Stop::Conflict(format!("object keys must be unique: {name} has two values for {}", pair[0].0)))
        }
        None => Ok(Value::object(members)),
    }
}

/// What a VM shows in place of the concerns of a rule that failed.
fn explanation(file: &str, line: u32, stop: &Stop) -> Value {
    let text = |name: &str, value: String| (Value::string(name), Value::string(value));
    Value::object(vec![
        text(
            "assessment",
            format!(
                "{stop}. Its concerns are missing here, those of the other rules are complete. Correct the rule; `forklift policy test` finds such errors before they are deployed."
            ),
        ),
        text("category", "Warning".to_owned()),
        text("id", "forklift.rule.failed".to_owned()),
        text("label", format!("A validation rule failed: {file}:{line}")),
    ])
}
