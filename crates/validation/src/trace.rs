//! Why a rule fires or does not: its statements with what they found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::{Concern, concern};
use crate::rego::document::Document;
use crate::rego::eval::{Evaluator, Event};
use crate::rego::places::Layout;
use crate::rego::value::Value;
use crate::{PACKAGE, Validator, package_of};

/// One definition of `concerns`, evaluated for one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// The file of the definition.
    pub file: String,
    /// Its line.
    pub line: u32,
    /// What it adds for this VM; empty when it does not fire.
    pub concerns: Vec<Concern>,
    /// The concern's id as the rule spells it, for rules that do not fire.
    pub id: Option<String>,
    /// Its statements and those of the rules it asks, in the order in which they ran.
    pub steps: Vec<TraceStep>,
    /// Why it was stopped.
    pub stopped: Option<String>,
}

/// A line of a rule that was evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// The file.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The line's text.
    pub text: String,
    /// Nesting: 0 the rule itself, 1 what it asks, …
    pub depth: u32,
    /// Whether it held for at least one value.
    pub held: bool,
    /// What it found: of several values one that held, else the last.
    pub value: Option<Value>,
}

impl Validator {
    /// Evaluates every rule of a provider on its own and tells how each came out; firing rules first.
    pub fn trace(&self, provider_type: &str, workload: &serde_json::Value) -> Vec<RuleTrace> {
        let compiled = self.compiled();
        let program = &compiled.program;
        let package = package_of(provider_type);
        let Some(rule) = program.rule(&format!("{PACKAGE}.{package}"), "concerns") else { return Vec::new() };
        let texts: HashMap<String, Arc<str>> =
            self.files().into_iter().map(|file| (file.name, Arc::from(file.text))).collect();
        // whoever looks wants to see all of a value, not only what the rule reads
        let layout = Layout::everything(program);
        let input = Document::of(&layout, &Value::from(workload));
        let mut traces: Vec<RuleTrace> = program.rules[rule]
            .definitions
            .iter()
            .enumerate()
            .map(|(index, definition)| {
                let mut evaluator = Evaluator::new(program, &layout, &input, self.limits()).watched();
                let found = evaluator.definition(rule, index);
                let file = program.files.get(definition.file as usize).map(ToString::to_string).unwrap_or_default();
                RuleTrace {
                    line: definition.line,
                    id: spelt_id(texts.get(&file).map_or("", |text| text), definition.line),
                    stopped: found.as_ref().err().map(ToString::to_string),
                    concerns: found.unwrap_or_default().iter().map(concern).collect(),
                    steps: steps(evaluator.events(), &program.files, &texts),
                    file,
                }
            })
            .collect();
        traces.sort_by_key(|trace| trace.concerns.is_empty());
        traces
    }
}

/// The events of one line: its steps in the order in which they were reached, of each the best event.
struct Line<'e> {
    depth: u32,
    steps: Vec<(usize, &'e Event)>,
}

impl Line<'_> {
    /// A line holds when its last step did, for one of the values.
    fn held(&self) -> bool {
        self.steps.last().is_some_and(|(_, event)| event.held)
    }

    /// What people want to see: texts and numbers that were compared, else what was found last.
    fn value(&self) -> Option<Value> {
        let plain: Vec<Value> = self
            .steps
            .iter()
            .filter_map(|(_, event)| event.value.clone())
            .filter(|value| matches!(value, Value::Number(_) | Value::String(_) | Value::Null))
            .collect();
        match plain.as_slice() {
            [] => self.steps.iter().rev().find_map(|(_, event)| event.value.clone()),
            [one] => Some(one.clone()),
            _ => Some(Value::array(plain)),
        }
    }
}

/// One step a line: iterations are folded.
fn steps(events: &[Event], files: &[Arc<str>], texts: &HashMap<String, Arc<str>>) -> Vec<TraceStep> {
    let mut order: Vec<(u32, u32)> = Vec::new();
    let mut lines: BTreeMap<(u32, u32), Line<'_>> = BTreeMap::new();
    for event in events {
        let place = (event.file, event.line);
        let line = lines.entry(place).or_insert_with(|| {
            order.push(place);
            Line { depth: event.depth, steps: Vec::new() }
        });
        match line.steps.iter_mut().find(|(step, _)| *step == event.step) {
            None => line.steps.push((event.step, event)),
            Some((_, known)) if event.held && !known.held => *known = event,
            Some(_) => {}
        }
    }
    order
        .into_iter()
        .filter_map(|place| {
            let line = lines.get(&place)?;
            let file = files.get(place.0 as usize)?.to_string();
            let text = texts.get(&file).and_then(|text| text.lines().nth(place.1 as usize - 1)).unwrap_or_default();
            // the head of a rule says nothing that its body has not said
            let head = line.steps.iter().all(|(step, _)| *step == 0);
            (!head).then(|| TraceStep {
                text: text.trim().to_owned(),
                file,
                line: place.1,
                depth: line.depth,
                held: line.held(),
                value: line.value(),
            })
        })
        .collect()
}

/// The id that a rule's text gives its concern.
fn spelt_id(text: &str, line: u32) -> Option<String> {
    let mut rest = text.lines().skip(line as usize - 1).take_while(|line| !line.starts_with('}'));
    let found = rest.find_map(|line| line.split_once("\"id\":").map(|(_, after)| after))?;
    found.split('"').nth(1).map(str::to_owned)
}
