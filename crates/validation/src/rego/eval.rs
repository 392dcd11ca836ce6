//! Evaluates a compiled program for one input.
//!
//! Steps run in their order; a step with several solutions runs what follows it
//! once for each. Values of rules are kept for the evaluation. Definitions of
//! `concerns` are evaluated one by one, each within its own limits: one of the
//! user's that fails is left out and named.

use std::sync::Arc;

use super::builtins;
use super::limits::{Budget, Limits, Stop};
use super::plan::{Base, BranchPlan, Definition, Function, Key, Kind, Op, Pattern, Program, Step, Target, Term};
use super::value::Value;

/// Whether to look for further solutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Go,
    Enough,
}

type Solved = Result<Flow, Stop>;
type Next<'n, 'p> = &'n mut dyn FnMut(&mut Evaluator<'p>, &mut [Value]) -> Solved;

/// A definition of the user's that was left out of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule's index and its definition's.
    pub definition: (usize, usize),
    pub file: Arc<str>,
    pub line: u32,
    pub stop: Stop,
}

/// What is known of a rule's value in this evaluation.
#[derive(Clone, Debug)]
enum Known {
    New,
    Undefined,
    Value(Value),
}

/// One step of an evaluation that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub file: u32,
    pub line: u32,
    /// The step's identity, so that steps of one line can be told apart; 0 the head of a rule.
    pub step: usize,
    /// Nesting of rules, the asked one 0.
    pub depth: u32,
    /// Whether the statement held.
    pub held: bool,
    /// What it found.
    pub value: Option<Value>,
}

/// Most events that are kept of one evaluation.
const EVENTS: usize = 100_000;

/// Says of a definition whether it may run.
pub type Admission<'p> = &'p (dyn Fn((usize, usize)) -> Option<Stop> + Sync);

/// An evaluation of one input.
pub struct Evaluator<'p> {
    program: &'p Program,
    /// The program without the user's files, asked when one of those breaks a bundled rule.
    base: Option<&'p Program>,
    admission: Option<Admission<'p>>,
    input: Option<Value>,
    data: Value,
    known: Vec<Known>,
    budget: Budget,
    limits: Limits,
    file: u32,
    /// Where the evaluation was stopped.
    place: Option<(u32, u32)>,
    failures: Vec<Failure>,
    events: Option<Vec<Event>>,
}

impl<'p> Evaluator<'p> {
    pub fn new(program: &'p Program, input: Option<Value>, limits: Limits) -> Self {
        Self {
            program,
            base: None,
            admission: None,
            input,
            data: Value::object(Vec::new()),
            known: vec![Known::New; program.rules.len()],
            budget: Budget::new(limits),
            limits,
            file: 0,
            place: None,
            failures: Vec::new(),
            events: None,
        }
    }

    /// Names the program to ask when a user's file breaks a bundled rule, and who may run.
    pub fn guarded(mut self, base: Option<&'p Program>, admission: Option<Admission<'p>>) -> Self {
        self.base = base;
        self.admission = admission;
        self
    }

    /// Keeps every step for [`Self::events`].
    pub fn watched(mut self) -> Self {
        self.events = Some(Vec::new());
        self
    }

    /// Returns the steps so far.
    pub fn events(&self) -> &[Event] {
        self.events.as_deref().unwrap_or_default()
    }

    /// Returns the definitions that were left out.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Returns the file and line at which the evaluation was stopped.
    pub fn place(&self) -> Option<(Arc<str>, u32)> {
        let (file, line) = self.place?;
        Some((self.program.files.get(file as usize)?.clone(), line))
    }

    /// Returns a rule's value; `None` when it is undefined.
    pub fn rule(&mut self, rule: usize) -> Result<Option<Value>, Stop> {
        match self.known.get(rule) {
            Some(Known::Value(value)) => return Ok(Some(value.clone())),
            Some(Known::Undefined) => return Ok(None),
            _ => {}
        }
        self.budget.enter()?;
        let value = self.rule_anew(rule)?;
        self.budget.leave();
        if let Some(known) = self.known.get_mut(rule) {
            *known = value.clone().map_or(Known::Undefined, Known::Value);
        }
        Ok(value)
    }

    /// Returns what one definition of a set adds, without keeping it.
    pub fn definition(&mut self, rule: usize, index: usize) -> Result<Vec<Value>, Stop> {
        let mut members = Vec::new();
        if let Some(definition) = self.program.rules.get(rule).and_then(|set| set.definitions.get(index)) {
            self.members(definition, &mut members)?;
        }
        Ok(members)
    }

    fn rule_anew(&mut self, rule: usize) -> Result<Option<Value>, Stop> {
        let program = self.program;
        let Some(set) = program.rules.get(rule) else { return Ok(None) };
        match set.kind {
            Kind::Set => {
                let mut members = Vec::new();
                for (index, definition) in set.definitions.iter().enumerate() {
                    if set.isolated {
                        self.isolated(rule, index, &mut members)?;
                    } else {
                        self.members(definition, &mut members)?;
                    }
                }
                Ok(Some(Value::set(members)))
            }
            Kind::Object => {
                let mut members: Vec<(Value, Value)> = Vec::new();
                for definition in &set.definitions {
                    self.solutions(definition, &[], &mut |this, key, value| {
                        this.budget.charge(96)?;
                        members.push((key, value));
                        Ok(Flow::Go)
                    })?;
                }
                unique(&set.name, members).map(Some)
            }
            Kind::Complete | Kind::Function(_) => {
                let found = self.single(rule, &[])?;
                Ok(found.or_else(|| set.default.clone()))
            }
        }
    }

    /// The one value of a complete rule, or of a function for these arguments.
    fn single(&mut self, rule: usize, arguments: &[Value]) -> Result<Option<Value>, Stop> {
        let program = self.program;
        let Some(set) = program.rules.get(rule) else { return Ok(None) };
        let mut found: Option<(Value, &Definition)> = None;
        for definition in &set.definitions {
            self.solutions(definition, arguments, &mut |this, _, value| match &found {
                Some((other, first)) if *other != value => {
                    // of two that disagree the user's is to blame
                    let users = |definition: &&Definition| definition.file as usize >= program.users;
                    let blamed = [definition, *first].into_iter().find(users).unwrap_or(definition);
                    this.place = Some((blamed.file, blamed.line));
                    let what = match set.kind {
                        Kind::Function(_) => "functions must not produce multiple outputs for same inputs",
                        _ => "complete rules must not produce multiple outputs",
                    };
                    Err(Stop::Conflict(format!("{what}: `{}` is {other} and {value}", set.name)))
                }
                _ => {
                    found = Some((value, definition));
                    Ok(Flow::Go)
                }
            })?;
        }
        Ok(found.map(|(value, _)| value))
    }

    fn members(&mut self, definition: &'p Definition, members: &mut Vec<Value>) -> Result<(), Stop> {
        self.solutions(definition, &[], &mut |this, key, _| {
            this.budget.charge(24)?;
            members.push(key);
            Ok(Flow::Go)
        })
    }

    /// Evaluates one definition of `concerns` within its own limits.
    fn isolated(&mut self, rule: usize, index: usize, members: &mut Vec<Value>) -> Result<(), Stop> {
        let Some(definition) = self.program.rules.get(rule).and_then(|set| set.definitions.get(index)) else {
            return Ok(());
        };
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
            // bundled files come first, so the definition has the same number there
            let package = &self.program.rules[rule].package;
            let same = base.rule(package, &self.program.rules[rule].name);
            if let Some(definition) = same.and_then(|rule| base.rules[rule].definitions.get(index)) {
                let mut alone = Evaluator::new(base, self.input.clone(), self.limits);
                alone.members(definition, members)?;
            }
        }
        Ok(())
    }

    /// Calls `each` with the key and value of every solution of a definition.
    fn solutions(
        &mut self,
        definition: &'p Definition,
        arguments: &[Value],
        each: &mut dyn FnMut(&mut Self, Value, Value) -> Solved,
    ) -> Result<(), Stop> {
        self.budget.step()?;
        let mut frame = vec![Value::Null; definition.slots];
        for (pattern, argument) in definition.parameters.iter().zip(arguments) {
            if !self.matches(pattern, argument, &mut frame)? {
                return Ok(());
            }
        }
        let outer = std::mem::replace(&mut self.file, definition.file);
        let result = self.branches(definition, &mut frame, each);
        self.file = outer;
        result
    }

    fn branches(
        &mut self,
        definition: &'p Definition,
        frame: &mut [Value],
        each: &mut dyn FnMut(&mut Self, Value, Value) -> Solved,
    ) -> Result<(), Stop> {
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

    fn run(&mut self, steps: &'p [Step], frame: &mut [Value], next: Next<'_, 'p>) -> Solved {
        for (at, step) in steps.iter().enumerate() {
            let result = self.step(step, &steps[at + 1..], frame, next);
            match result {
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

    fn step(&mut self, step: &'p Step, rest: &'p [Step], frame: &mut [Value], next: Next<'_, 'p>) -> Result<Ran, Stop> {
        self.budget.step()?;
        let held = match &step.op {
            Op::Walk { base, path, out } => {
                let value = match base {
                    Base::Input => self.input.clone(),
                    Base::Slot(slot) => frame.get(*slot).cloned(),
                    Base::Rule(rule) => self.rule(*rule)?,
                    Base::Data => Some(self.data.clone()),
                };
                match value {
                    None => self.missed(step),
                    Some(value) => return self.walk(&value, path, out, step, rest, frame, next),
                }
            }
            Op::Call { function, arguments, out } => match self.call(*function, arguments, frame)? {
                Some(value) => self.found(step, out, &value, frame)?,
                None => self.missed(step),
            },
            Op::Match { term, out } => {
                let value = self.term(term, frame)?;
                self.found(step, out, &value, frame)?
            }
            Op::Build { slot, kind, key, value, body } => {
                let built = self.build(*kind, key, value, body, frame)?;
                if let Some(place) = frame.get_mut(*slot) {
                    *place = built;
                }
                true
            }
            Op::Not(body) => {
                let held = !self.any(body, frame)?;
                if self.events.is_some() {
                    self.event(step.line, identity(step), held, None);
                }
                held
            }
            Op::Every { domain, key, value, body } => {
                let domain = self.term(domain, frame)?;
                let mut all = matches!(domain, Value::Array(_) | Value::Set(_) | Value::Object(_));
                for at in 0..length(&domain) {
                    let Some((k, v)) = entry(&domain, at) else { break };
                    if let Some(place) = key.and_then(|key| frame.get_mut(key)) {
                        *place = k;
                    }
                    if let Some(place) = frame.get_mut(*value) {
                        *place = v;
                    }
                    if !self.any(body, frame)? {
                        all = false;
                        break;
                    }
                }
                if self.events.is_some() {
                    self.event(step.line, identity(step), all, None);
                }
                all
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
                    if self.found(step, out, &pair, frame)? && self.run(rest, frame, next)? == Flow::Enough {
                        return Ok(Ran::Through(Flow::Enough));
                    }
                }
                return Ok(Ran::Through(Flow::Go));
            }
            Op::With { changes, body, bound } => {
                for solution in self.with(changes, body, bound, frame)? {
                    for (slot, value) in bound.iter().zip(solution) {
                        if let Some(place) = frame.get_mut(*slot) {
                            *place = value;
                        }
                    }
                    if self.run(rest, frame, next)? == Flow::Enough {
                        return Ok(Ran::Through(Flow::Enough));
                    }
                }
                return Ok(Ran::Through(Flow::Go));
            }
        };
        Ok(if held { Ran::Held } else { Ran::Failed })
    }

    /// Matches what a step has found, and notes it where the evaluation is watched.
    fn found(&mut self, step: &Step, out: &Pattern, value: &Value, frame: &mut [Value]) -> Result<bool, Stop> {
        let held = self.matches(out, value, frame)?;
        if self.events.is_some() {
            self.event(step.line, identity(step), held, Some(value.clone()));
        }
        Ok(held)
    }

    /// Notes that a step found nothing.
    fn missed(&mut self, step: &Step) -> bool {
        if self.events.is_some() {
            self.event(step.line, identity(step), false, None);
        }
        false
    }

    fn event(&mut self, line: u32, step: usize, held: bool, value: Option<Value>) {
        let (file, depth) = (self.file, self.budget.depth());
        if let Some(events) = self.events.as_mut().filter(|events| events.len() < EVENTS) {
            events.push(Event { file, line, step, depth, held, value });
        }
    }

    /// Follows a path; at an unbound key the rest of the body runs for each entry.
    #[expect(clippy::too_many_arguments, reason = "the state of one step")]
    fn walk(
        &mut self,
        base: &Value,
        path: &'p [Key],
        out: &'p Pattern,
        step: &'p Step,
        rest: &'p [Step],
        frame: &mut [Value],
        next: Next<'_, 'p>,
    ) -> Result<Ran, Stop> {
        let mut at = base;
        for (index, key) in path.iter().enumerate() {
            let found = match key {
                Key::Const(key) => at.get(key),
                Key::Term(Term::Slot(slot)) => frame.get(*slot).and_then(|key| at.get(key)),
                Key::Term(term) => {
                    let key = self.term(term, frame)?;
                    at.get(&key)
                }
                Key::Bind(_) | Key::Pattern(_) => {
                    for entry_at in 0..length(at) {
                        self.budget.step()?;
                        let Some((k, v)) = entry(at, entry_at) else { break };
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
                        match self.walk(&v, &path[index + 1..], out, step, rest, frame, next)? {
                            Ran::Through(Flow::Enough) => return Ok(Ran::Through(Flow::Enough)),
                            Ran::Held => {
                                if self.run(rest, frame, next)? == Flow::Enough {
                                    return Ok(Ran::Through(Flow::Enough));
                                }
                            }
                            _ => {}
                        }
                    }
                    return Ok(Ran::Through(Flow::Go));
                }
            };
            match found {
                Some(value) => at = value,
                None => {
                    self.missed(step);
                    return Ok(Ran::Failed);
                }
            }
        }
        Ok(if self.found(step, out, at, frame)? { Ran::Held } else { Ran::Failed })
    }

    fn any(&mut self, body: &'p [Step], frame: &mut [Value]) -> Result<bool, Stop> {
        let mut found = false;
        self.run(body, frame, &mut |_, _| {
            found = true;
            Ok(Flow::Enough)
        })?;
        Ok(found)
    }

    fn build(
        &mut self,
        kind: Kind,
        key: &'p Term,
        value: &'p Term,
        body: &'p [Step],
        frame: &mut [Value],
    ) -> Result<Value, Stop> {
        let mut items = Vec::new();
        let mut members = Vec::new();
        self.run(body, frame, &mut |this, frame| {
            this.budget.charge(48)?;
            match kind {
                Kind::Object => members.push((this.term(key, frame)?, this.term(value, frame)?)),
                Kind::Set => items.push(this.term(key, frame)?),
                _ => items.push(this.term(value, frame)?),
            }
            Ok(Flow::Go)
        })?;
        match kind {
            Kind::Object => unique("the comprehension", members),
            Kind::Set => Ok(Value::set(items)),
            _ => Ok(Value::array(items)),
        }
    }

    fn call(&mut self, function: Function, terms: &'p [Term], frame: &[Value]) -> builtins::Outcome {
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
                let mut arguments = Vec::with_capacity(terms.len());
                for term in terms {
                    arguments.push(self.term(term, frame)?);
                }
                self.apply(function, &arguments)
            }
        }
    }

    fn apply(&mut self, function: Function, arguments: &[Value]) -> builtins::Outcome {
        match function {
            Function::Builtin(builtin) => builtins::call(builtin, &mut self.budget, arguments),
            Function::Rule(rule) => {
                self.budget.enter()?;
                let found = self.single(rule, arguments)?;
                self.budget.leave();
                Ok(found.or_else(|| self.program.rules.get(rule).and_then(|set| set.default.clone())))
            }
        }
    }

    fn term(&mut self, term: &Term, frame: &[Value]) -> Result<Value, Stop> {
        Ok(match term {
            Term::Const(value) => value.clone(),
            Term::Slot(slot) => frame.get(*slot).cloned().unwrap_or_default(),
            Term::Array(items) => {
                self.budget.charge(24 + items.len() * 24)?;
                Value::array(items.iter().map(|item| self.term(item, frame)).collect::<Result<_, _>>()?)
            }
            Term::Set(items) => {
                self.budget.charge(24 + items.len() * 24)?;
                Value::set(items.iter().map(|item| self.term(item, frame)).collect::<Result<_, _>>()?)
            }
            Term::Object(members) => {
                self.budget.charge(24 + members.len() * 48)?;
                let pairs = members.iter().map(|(key, value)| Ok((self.term(key, frame)?, self.term(value, frame)?)));
                Value::object(pairs.collect::<Result<_, Stop>>()?)
            }
        })
    }

    fn matches(&mut self, pattern: &Pattern, value: &Value, frame: &mut [Value]) -> Result<bool, Stop> {
        Ok(match pattern {
            Pattern::Holds => value.holds(),
            Pattern::Bind(slot) => {
                if let Some(place) = frame.get_mut(*slot) {
                    *place = value.clone();
                }
                true
            }
            Pattern::Equal(Term::Const(wanted)) => wanted == value,
            Pattern::Equal(Term::Slot(slot)) => frame.get(*slot) == Some(value),
            Pattern::Equal(term) => self.term(term, frame)? == *value,
            Pattern::Array(patterns) => match value {
                Value::Array(items) if items.len() == patterns.len() => {
                    for (pattern, item) in patterns.iter().zip(items.iter()) {
                        if !self.matches(pattern, item, frame)? {
                            return Ok(false);
                        }
                    }
                    true
                }
                _ => false,
            },
            Pattern::Object(patterns) => match value {
                Value::Object(members) if members.len() == patterns.len() => {
                    for (key, pattern) in patterns {
                        let key = self.term(key, frame)?;
                        let Some(member) = value.get(&key) else { return Ok(false) };
                        if !self.matches(pattern, member, frame)? {
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
    fn descend(&mut self, value: &Value, path: &mut Vec<Value>, found: &mut Vec<Value>) -> Result<(), Stop> {
        self.budget.step()?;
        self.budget.charge(128 + path.len() * 24)?;
        found.push(Value::array(vec![Value::array(path.clone()), value.clone()]));
        for at in 0..length(value) {
            let Some((key, inner)) = entry(value, at) else { break };
            path.push(key);
            self.descend(&inner, path, found)?;
            path.pop();
        }
        Ok(())
    }

    /// Solves a body with other documents; what it binds is returned for each solution.
    fn with(
        &mut self,
        changes: &'p [(Target, Term)],
        body: &'p [Step],
        bound: &'p [usize],
        frame: &mut [Value],
    ) -> Result<Vec<Vec<Value>>, Stop> {
        let mut input = self.input.clone();
        let mut data = self.data.clone();
        let mut known = vec![Known::New; self.known.len()];
        for (target, term) in changes {
            let value = self.term(term, frame)?;
            match target {
                Target::Input(path) => input = Some(replaced(input.unwrap_or_default(), path, value)),
                Target::Data(path) => data = replaced(data, path, value),
                Target::Rule(rule) => {
                    if let Some(place) = known.get_mut(*rule) {
                        *place = Known::Value(value);
                    }
                }
            }
        }
        let input = std::mem::replace(&mut self.input, input);
        let data = std::mem::replace(&mut self.data, data);
        let known = std::mem::replace(&mut self.known, known);
        let mut solutions = Vec::new();
        let result = self.run(body, frame, &mut |this, frame| {
            this.budget.charge(24 + bound.len() * 24)?;
            solutions.push(bound.iter().map(|slot| frame.get(*slot).cloned().unwrap_or_default()).collect());
            Ok(Flow::Go)
        });
        self.input = input;
        self.data = data;
        self.known = known;
        result.map(|_| solutions)
    }
}

fn identity(step: &Step) -> usize {
    std::ptr::from_ref(step).addr()
}

/// How a step ended.
enum Ran {
    Held,
    Failed,
    /// It ran the rest of the body itself.
    Through(Flow),
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) | Value::Set(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

fn entry(value: &Value, at: usize) -> Option<(Value, Value)> {
    match value {
        Value::Array(items) => Some((Value::int(at as i64), items.get(at)?.clone())),
        Value::Set(items) => items.get(at).map(|item| (item.clone(), item.clone())),
        Value::Object(members) => members.get(at).cloned(),
        _ => None,
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

/// An object, unless a key has two values.
fn unique(name: &str, mut members: Vec<(Value, Value)>) -> Result<Value, Stop> {
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
