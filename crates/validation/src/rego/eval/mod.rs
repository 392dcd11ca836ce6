//! Evaluates a compiled program for one input.
//!
//! Steps run in their order; a step with several solutions runs what follows it
//! once for each. Values of rules are kept for the evaluation. Definitions of
//! `concerns` are evaluated one by one, each within its own limits: one of the
//! user's that fails is left out and named.
//!
//! Values of the input and of the rules' texts are borrowed; only what rules make is owned.

mod rules;
mod steps;
mod walk;
mod watch;
mod with;

use std::borrow::Cow;
use std::sync::Arc;

use super::document::Document;
use super::limits::{Budget, Limits, Stop};
use super::places::Layout;
use super::plan::{Function, New, Program};
use super::value::Value;

pub use watch::Event;

/// Whether to look for further solutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Go,
    Enough,
}

type Solved = Result<Flow, Stop>;
/// A value in a slot: of the input, of a rule's text, or made.
type Held<'v> = Cow<'v, Value>;
/// What follows, for one solution.
type Next<'n, 'v> = &'n mut dyn FnMut(&mut Evaluator<'v>, &mut [Held<'v>]) -> Solved;
/// Takes the key and the value of a solution.
type Each<'n, 'v> = &'n mut dyn FnMut(&mut Evaluator<'v>, Held<'v>, Held<'v>) -> Solved;

static NOTHING: Value = Value::Null;

/// A definition of the user's that was left out of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule's index and its definition's.
    pub definition: (usize, usize),
    pub file: Arc<str>,
    pub line: u32,
    pub stop: Stop,
}

/// What is known of rules' values in this evaluation.
struct Known<'v> {
    /// For each rule 0 when it was not asked, 1 when it is undefined, else its value's position and 2.
    rules: Vec<u32>,
    values: Vec<Held<'v>>,
}

impl<'v> Known<'v> {
    fn nothing(program: &Program) -> Self {
        Self { rules: vec![0; program.rules.len()], values: Vec::with_capacity(64) }
    }

    /// Returns a rule's value, `None` inside when it is undefined; nothing when it was not asked.
    fn get(&self, rule: usize) -> Option<Option<&Held<'v>>> {
        match self.rules.get(rule)? {
            0 => None,
            1 => Some(None),
            position => Some(self.values.get(*position as usize - 2)),
        }
    }

    fn put(&mut self, rule: usize, value: Option<Held<'v>>) {
        let Some(place) = self.rules.get_mut(rule) else { return };
        *place = 1;
        if let Some(value) = value {
            self.values.push(value);
            *place = u32::try_from(self.values.len() + 1).unwrap_or(1);
        }
    }
}

/// Says of a definition whether it may run.
pub type Admission<'v> = &'v (dyn Fn((usize, usize)) -> Option<Stop> + Sync);

/// An evaluation of one input.
pub struct Evaluator<'v> {
    program: &'v Program,
    layout: &'v Layout,
    /// The program without the user's files, asked when one of those breaks a bundled rule.
    base: Option<&'v Program>,
    admission: Option<Admission<'v>>,
    document: &'v Document,
    /// What is below `data` and is no rule; `None` for nothing.
    data: Option<Value>,
    known: Known<'v>,
    /// Functions that `with` has replaced.
    mocks: Vec<(Function, Mock<'v>)>,
    /// Slots of definitions that have ended, for the next.
    frames: Vec<Vec<Held<'v>>>,
    budget: Budget,
    limits: Limits,
    file: u32,
    /// Where the evaluation was stopped.
    place: Option<(u32, u32)>,
    failures: Vec<Failure>,
    events: Option<Vec<Event>>,
}

/// What takes the place of a function.
#[derive(Clone)]
enum Mock<'v> {
    Value(Held<'v>),
    Function(Function),
}

impl<'v> Evaluator<'v> {
    /// Begins an evaluation of a document that was read with this layout of the program's.
    pub fn new(program: &'v Program, layout: &'v Layout, document: &'v Document, limits: Limits) -> Self {
        Self {
            program,
            layout,
            base: None,
            admission: None,
            document,
            data: None,
            known: Known::nothing(program),
            mocks: Vec::new(),
            frames: Vec::new(),
            budget: Budget::new(limits),
            limits,
            file: 0,
            place: None,
            failures: Vec::new(),
            events: None,
        }
    }

    /// Names the program to ask when a user's file breaks a bundled rule, and who may run.
    ///
    /// Its rules and places are numbered as in this one.
    pub fn guarded(mut self, base: Option<&'v Program>, admission: Option<Admission<'v>>) -> Self {
        self.base = base;
        self.admission = admission;
        self
    }

    /// Keeps every step for [`Self::events`].
    pub fn watched(mut self) -> Self {
        self.events = Some(Vec::new());
        self
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
}

/// Puts a new value in the place of a term or of a function.
fn mock<'v>(evaluator: &mut Evaluator<'v>, new: &'v New, frame: &[Held<'v>]) -> Result<Mock<'v>, Stop> {
    Ok(match new {
        New::Value(term) => Mock::Value(evaluator.term(term, frame)?),
        New::Function(function) => Mock::Function(*function),
    })
}
