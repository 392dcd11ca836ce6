//! Runs `_test.rego` files: every rule named `test_…` has to be true.
//!
//! The bundled rules' tests run in `cargo test`; users test their own rules with
//! the same function, without a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::rego::ast::{Module, RuleKind};
use crate::rego::document::Document;
use crate::rego::eval::Evaluator;
use crate::rego::limits::Limits;
use crate::rego::parse;
use crate::rego::places::Layout;
use crate::rego::plan::{Op, Program, Step};
use crate::rego::value::Value;

/// What one test rule gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The test's name, with its package: `data.….test_x`; a file that cannot be used has its own name here.
    pub test: String,
    /// The file with the test.
    pub file: String,
    /// The line of the test, or of the error.
    pub line: u32,
    /// `None` when it holds, else why not.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Which lines of a file were evaluated by the tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Lines with a statement that held at least once.
    pub covered: BTreeSet<u32>,
    /// Lines with a statement that never did.
    pub missed: BTreeSet<u32>,
}

/// The result of all tests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Tests in the order of their names.
    pub outcomes: Vec<Outcome>,
    /// For each file of rules (tests left out) what was covered.
    pub coverage: BTreeMap<String, Coverage>,
}

impl Report {
    /// Returns the share of the covered lines, 1 when there are none.
    pub fn covered(&self) -> f64 {
        let covered: usize = self.coverage.values().map(|c| c.covered.len()).sum();
        let missed: usize = self.coverage.values().map(|c| c.missed.len()).sum();
        if covered + missed == 0 { 1.0 } else { covered as f64 / (covered + missed) as f64 }
    }
}

/// Runs all tests of the files and returns their outcomes.
pub fn run<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Outcome> {
    report(files, Limits::default()).outcomes
}

/// Runs all tests of the files; those of one package are tested together.
pub fn report<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>, limits: Limits) -> Report {
    let mut report = Report::default();
    let mut packages: BTreeMap<String, Vec<Module>> = BTreeMap::new();
    for (name, text) in files {
        match parse::either(name, text) {
            Ok((module, _)) => packages.entry(module.package.join(".")).or_default().push(module),
            Err(error) => report.outcomes.push(unusable(name, error.line, error.message)),
        }
    }
    for (package, modules) in packages {
        match crate::rego::compile::program(&modules, modules.len()) {
            Ok(program) => run_package(&package, &modules, &program, limits, &mut report),
            Err(error) => report.outcomes.push(unusable(&error.file, error.line, error.message)),
        }
    }
    report
}

fn unusable(file: &str, line: u32, message: String) -> Outcome {
    Outcome { test: file.to_owned(), file: file.to_owned(), line, failure: Some(message), took: Duration::ZERO }
}

fn run_package(package: &str, modules: &[Module], program: &Program, limits: Limits, report: &mut Report) {
    let mut tests: BTreeMap<&str, (&str, u32)> = BTreeMap::new();
    for module in modules {
        for rule in module.rules.iter().filter(|rule| rule.name.starts_with("test_")) {
            if matches!(rule.kind, RuleKind::Complete { .. }) {
                tests.entry(&rule.name).or_insert((&module.file, rule.line));
            }
        }
    }
    let mut held: BTreeSet<(u32, u32)> = BTreeSet::new();
    let (layout, absent) = (Layout::everything(program), Document::absent());
    for (name, (file, line)) in tests {
        let Some(rule) = program.rule(package, name) else { continue };
        let mut evaluator = Evaluator::new(program, &layout, &absent, limits).watched();
        let start = Instant::now();
        let result = evaluator.rule(rule);
        let took = start.elapsed();
        held.extend(evaluator.events().iter().filter(|event| event.held).map(|event| (event.file, event.line)));
        let own = |file_number: u32| program.files.get(file_number as usize).is_some_and(|name| **name == *file);
        let failure = match result {
            Ok(Some(Value::Bool(true))) => None,
            Ok(Some(other)) => Some(format!("is {other}, not true")),
            Ok(None) => {
                let last = evaluator.events().iter().rfind(|event| !event.held && own(event.file));
                Some(last.map_or_else(
                    || "does not hold".to_owned(),
                    |event| match &event.value {
                        Some(value) => format!("line {} does not hold: it is {}", event.line, short(value)),
                        None => format!("line {} does not hold", event.line),
                    },
                ))
            }
            Err(stop) => Some(match evaluator.place() {
                Some((file, line)) => format!("{file}:{line}: {stop}"),
                None => stop.to_string(),
            }),
        };
        report.outcomes.push(Outcome {
            test: format!("data.{package}.{name}"),
            file: file.to_owned(),
            line,
            failure,
            took,
        });
    }
    for (number, file) in program.files.iter().enumerate().filter(|(_, file)| !file.ends_with("_test.rego")) {
        let mut coverage = Coverage::default();
        let definitions = program.rules.iter().flat_map(|set| &set.definitions);
        for definition in definitions.filter(|definition| definition.file as usize == number) {
            let mut lines = BTreeSet::new();
            for branch in &definition.branches {
                collect_lines(&branch.steps, &mut lines);
                lines.insert(branch.line);
            }
            for line in lines {
                match held.contains(&(number as u32, line)) {
                    true => coverage.covered.insert(line),
                    false => coverage.missed.insert(line),
                };
            }
        }
        coverage.missed.retain(|line| !coverage.covered.contains(line));
        report.coverage.insert(file.to_string(), coverage);
    }
}

fn collect_lines(steps: &[Step], lines: &mut BTreeSet<u32>) {
    for step in steps {
        lines.insert(step.line);
        match &step.op {
            Op::Build { body, .. } | Op::Every { body, .. } | Op::With { body, .. } => collect_lines(body, lines),
            _ => {}
        }
    }
}

/// A value's text, cut where it gets long.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bundled_rules_pass_their_tests() {
        let report = report(crate::BUNDLED.iter().copied(), Limits::default());
        let failures: Vec<&Outcome> = report.outcomes.iter().filter(|o| o.failure.is_some()).collect();
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(report.outcomes.len() >= 347, "only {} tests were found", report.outcomes.len());
        assert!(report.covered() > 0.9, "only {:.2} of the lines are covered", report.covered());
    }

    #[test]
    fn every_bundled_rule_with_an_id_has_a_test_file() {
        for (name, text) in crate::BUNDLED.iter().filter(|(n, t)| !n.ends_with("_test.rego") && t.contains("\"id\":")) {
            let test = name.replace(".rego", "_test.rego");
            assert!(crate::BUNDLED.iter().any(|(n, _)| *n == test), "{name} has no {test}: {text}");
        }
    }

    #[test]
    fn a_test_that_does_not_hold_is_reported() {
        let text = "package x\nimport rego.v1\ntest_no if {\n\tx := 1\n\tx == 2\n}\ntest_yes if 1 == 1\n";
        let outcomes = run([("x/a_test.rego", text)]);
        assert_eq!(
            outcomes.iter().map(|o| (o.test.as_str(), o.failure.as_deref())).collect::<Vec<_>>(),
            [("data.x.test_no", Some("line 5 does not hold: it is 1")), ("data.x.test_yes", None)]
        );
    }

    #[test]
    fn lines_that_no_test_reaches_are_named() {
        let rules = "package x\nimport rego.v1\np if {\n\tinput.a\n\tinput.b\n}\nq := 1 if input.c\n";
        let test = "package x\nimport rego.v1\ntest_p if not p with input as {\"a\": 1}\n";
        let report = report([("p.rego", rules), ("p_test.rego", test)], Limits::default());
        let coverage = &report.coverage["p.rego"];
        assert_eq!((coverage.covered.clone(), coverage.missed.clone()), ([4].into(), [3, 5, 7].into()));
    }
}
