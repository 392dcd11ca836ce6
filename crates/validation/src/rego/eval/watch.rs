//! Evaluations that are watched: every step with what it found, for traces, tests and coverage.

use super::{Evaluator, Held};
use crate::rego::plan::Step;
use crate::rego::value::Value;

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

impl<'v> Evaluator<'v> {
    /// Returns the steps so far.
    pub fn events(&self) -> &[Event] {
        self.events.as_deref().unwrap_or_default()
    }

    /// Notes how a step came out, where the evaluation is watched.
    #[inline]
    pub(super) fn noted(&mut self, step: &Step, held: bool, value: Option<&Held<'v>>) -> bool {
        if self.events.is_some() {
            self.event(step.line, std::ptr::from_ref(step).addr(), held, value.map(|value| value.as_ref().clone()));
        }
        held
    }

    #[cold]
    pub(super) fn event(&mut self, line: u32, step: usize, held: bool, value: Option<Value>) {
        let (file, depth) = (self.file, self.budget.depth());
        if let Some(events) = self.events.as_mut().filter(|events| events.len() < EVENTS) {
            events.push(Event { file, line, step, depth, held, value });
        }
    }
}
