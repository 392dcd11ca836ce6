//! Questions to the rules: a document by its path, for many inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compiled::Compiled;
use crate::engine::QueryError;
use crate::rego::document::{Document, Reader};
use crate::rego::eval::Evaluator;
use crate::rego::limits::{Limits, Stop};
use crate::rego::places::Layout;
use crate::rego::plan::{Kind, Program};
use crate::rego::value::Value;

/// A document of the rules that were in use when it was asked for.
pub(crate) struct Question {
    compiled: Arc<Compiled>,
    /// Without `data`.
    path: Vec<String>,
    /// The layout of a thread of its own.
    layout: Option<Layout>,
    limits: Limits,
}

impl Question {
    /// Asks for the document at a path with slashes.
    pub fn new(compiled: Arc<Compiled>, path: &str, limits: Limits) -> Self {
        let path = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { compiled, path, layout: None, limits }
    }

    /// Returns the same question for a thread that will read many inputs.
    pub fn apart(&self) -> Self {
        let (compiled, path) = (self.compiled.clone(), self.path.clone());
        Self { compiled, path, layout: Some(self.layout().apart()), limits: self.limits }
    }

    /// Whether rules of users take part.
    pub fn asks_users(&self) -> bool {
        self.compiled.base.is_some()
    }

    fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    fn layout(&self) -> &Layout {
        self.layout.as_ref().unwrap_or_else(|| self.compiled.program.layout_of(&self.parts()))
    }

    /// Returns what reads an input: what the rules need of it.
    pub fn reader(&self) -> Reader<'_> {
        Reader(self.layout())
    }

    /// Returns an input that is at hand as a value.
    pub fn document(&self, input: &Value) -> Document {
        Document::of(self.layout(), input)
    }

    /// Returns the document for an input; `None` when it is undefined.
    pub fn answer(&self, input: Option<&Document>) -> Result<Option<Value>, QueryError> {
        let (compiled, parts, layout) = (&*self.compiled, self.parts(), self.layout());
        let absent = Document::absent();
        let input = input.unwrap_or(&absent);
        let admission = |definition| compiled.admit(definition);
        let mut evaluator = Evaluator::new(&compiled.program, layout, input, self.limits)
            .guarded(compiled.base.as_deref(), Some(&admission));
        let result = document(&compiled.program, &mut evaluator, &parts);
        compiled.strike(evaluator.failures());
        let stop = match result {
            Ok(value) => return Ok(value),
            Err(stop) => stop,
        };
        let (file, line) = evaluator.place().unwrap_or_else(|| (Arc::from("rules"), 0));
        let error = QueryError { file: file.to_string(), line, stop };
        // a definition of the user's broke a bundled rule: that is answered as if it were not there
        if let Some(base) = &compiled.base {
            let mut alone = Evaluator::new(base, layout, input, self.limits);
            if let Ok(Some(value)) = document(base, &mut alone, &parts) {
                compiled.note(&error);
                return Ok(Some(value));
            }
        }
        Err(error)
    }
}

/// Evaluates what a path names: a rule or a part of its value, a package, or several packages.
fn document<'p>(program: &'p Program, evaluator: &mut Evaluator<'p>, path: &[&str]) -> Result<Option<Value>, Stop> {
    for split in (0..path.len()).rev() {
        let package = path[..split].join(".");
        let Some(rule) = program.rule(&package, path[split]) else { continue };
        if matches!(program.rules[rule].kind, Kind::Function(_)) {
            return Ok(None);
        }
        let Some(value) = evaluator.rule(rule)? else { return Ok(None) };
        return Ok(below(&value, &path[split + 1..]));
    }
    let name = path.join(".");
    let mut tree = BTreeMap::new();
    for (package, rules) in &program.packages {
        let rest = match package.strip_prefix(&name) {
            Some(rest) if name.is_empty() || rest.is_empty() || rest.starts_with('.') => rest.trim_start_matches('.'),
            _ => continue,
        };
        let mut members = Vec::new();
        for (name, rule) in rules {
            if matches!(program.rules[*rule].kind, Kind::Function(_)) {
                continue;
            }
            if let Some(value) = evaluator.rule(*rule)? {
                members.push((Value::string(name.as_str()), value));
            }
        }
        tree.insert(rest.to_owned(), Value::object(members));
    }
    if tree.is_empty() {
        return Ok(if path.is_empty() { Some(Value::object(Vec::new())) } else { None });
    }
    Ok(Some(nested(tree)))
}

fn below(value: &Value, path: &[&str]) -> Option<Value> {
    let Some((first, rest)) = path.split_first() else { return Some(value.clone()) };
    let next = match value {
        Value::Array(items) => items.get(first.parse::<usize>().ok()?)?,
        other => other.get(&Value::string(*first))?,
    };
    below(next, rest)
}

/// Puts packages, by the rest of their names, into one object.
fn nested(tree: BTreeMap<String, Value>) -> Value {
    let mut members: Vec<(Value, Value)> = Vec::new();
    let mut inner: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for (path, value) in tree {
        match path.split_once('.') {
            _ if path.is_empty() => {
                if let Value::Object(own) = value {
                    members.extend(own.iter().cloned());
                }
            }
            Some((first, rest)) => drop(inner.entry(first.to_owned()).or_default().insert(rest.to_owned(), value)),
            None => drop(inner.entry(path).or_default().insert(String::new(), value)),
        }
    }
    members.extend(inner.into_iter().map(|(name, tree)| (Value::string(name), nested(tree))));
    Value::object(members)
}
