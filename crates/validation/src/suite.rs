//! Runs `_test.rego` files: every rule named `test_…` has to be true.
//!
//! The bundled rules' tests run in `cargo test`; users test their own rules with
//! the same function, without a cluster.

use std::collections::BTreeMap;

use regorus::{Engine, Value};

use crate::{engine::new_engine, hoist};

/// What one test rule gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The test's name, with its package.
    pub test: String,
    /// `None` when it holds, else why not.
    pub failure: Option<String>,
}

/// Loads all files, grouped by folder, and runs their tests.
///
/// Every rule file that belongs to a test has to be among the files.
pub fn run<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Outcome> {
    let mut folders: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (name, text) in files {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder).or_default().push((name, text));
    }
    folders.into_values().flat_map(|files| run_folder(&files)).collect()
}

fn run_folder(files: &[(&str, &str)]) -> Vec<Outcome> {
    let mut engine = new_engine();
    let mut outcomes = Vec::new();
    let mut tests = Vec::new();
    for (name, text) in files {
        match engine.add_policy((*name).to_owned(), hoist::rewrite(text)) {
            Ok(package) => tests.extend(test_names(text).map(|t| format!("{package}.{t}"))),
            Err(error) => {
                outcomes.push(Outcome { test: (*name).to_owned(), failure: Some(error.to_string()) });
            }
        }
    }
    tests.sort();
    tests.dedup();
    outcomes.extend(tests.into_iter().map(|test| evaluate(&mut engine, test)));
    outcomes
}

fn evaluate(engine: &mut Engine, test: String) -> Outcome {
    let failure = match engine.eval_rule(test.clone()) {
        Ok(Value::Bool(true)) => None,
        Ok(other) => Some(format!("is {other}, not true")),
        Err(error) => Some(error.to_string()),
    };
    Outcome { test, failure }
}

fn test_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("test_")).map(|line| {
        let end = line.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(line.len());
        &line[..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bundled_rules_pass_their_tests() {
        let outcomes = run(crate::BUNDLED.iter().copied());
        let failures: Vec<&Outcome> = outcomes.iter().filter(|o| o.failure.is_some()).collect();
        assert!(failures.is_empty(), "{failures:#?}");
        assert!(outcomes.len() >= 346, "only {} tests were found", outcomes.len());
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
        let outcomes = run([("x/a_test.rego", "package x\nimport rego.v1\ntest_no if 1 == 2\ntest_yes if 1 == 1\n")]);
        assert_eq!(
            outcomes.iter().map(|o| (o.test.as_str(), o.failure.is_some())).collect::<Vec<_>>(),
            [("data.x.test_no", true), ("data.x.test_yes", false)]
        );
    }
}
