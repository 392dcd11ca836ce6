//! Random inventory documents give the same answer here as in OPA, and every rule fires.
//!
//! `RULE_INPUTS` sets the number of documents per provider (2,000 when unset), `RULE_SEED` where they begin.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use forklift_testkit::peers::opa::Opa;
use forklift_validation::{BUNDLED, Validator};
use serde_json::{Value, json};

use crate::random::Rng;
use crate::{bundled, inputs, number, shape};

/// Documents in one request.
const BATCH: u64 = 200;
/// How many differences are made small and shown.
const SHOWN: usize = 5;

/// What a campaign of one package has seen.
#[derive(Default)]
struct Tally {
    documents: u64,
    refused: u64,
    concerns: u64,
    fired: BTreeSet<String>,
    differences: Vec<Value>,
    ours: Duration,
    theirs: Duration,
}

#[test]
fn random_documents_get_the_same_answer_as_from_opa() {
    let documents = number("RULE_INPUTS", 2000);
    let seed = number("RULE_SEED", 1);
    let wrappers = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(wrappers.path().join("batch.rego"), wrapper()).expect("writable");
    let Some(opa) = Opa::start(&[&bundled(), wrappers.path()]) else { return };
    let pair = Pair { validator: Validator::new(), opa };
    assert_eq!(pair.validator.rule_errors(), []);
    let mut failures = Vec::new();
    for package in inputs::PACKAGES {
        let tally = pair.campaign(package, documents, seed);
        let rules = ids(package);
        println!(
            "{package}: {} documents, {} refused, {} concerns, {} of {} rules fired, {} differences; ours {:.1} s, OPA {:.1} s",
            tally.documents,
            tally.refused,
            tally.concerns,
            tally.fired.len(),
            rules.len(),
            tally.differences.len(),
            tally.ours.as_secs_f64(),
            tally.theirs.as_secs_f64(),
        );
        for document in tally.differences.iter().take(SHOWN) {
            let small = pair.shrink(package, document);
            let (ours, theirs) = pair.answers(package, &small);
            failures.push(format!("{package}: {small}\n  here {ours}\n  OPA  {theirs}"));
        }
        let silent: Vec<_> = rules.difference(&tally.fired).collect();
        assert!(silent.is_empty(), "rules of {package} that never fired: {silent:?}");
        assert!(tally.refused > 0, "no document of {package} was without a name");
    }
    assert!(failures.is_empty(), "{} differences are shown:\n{}", failures.len(), failures.join("\n"));
}

/// Both engines with the same rules.
struct Pair {
    validator: Validator,
    opa: Opa,
}

impl Pair {
    fn campaign(&self, package: &str, documents: u64, seed: u64) -> Tally {
        let shape = inputs::of(package);
        let batches: Mutex<Vec<(u64, u64)>> = Mutex::new(
            (0..documents).step_by(BATCH as usize).map(|from| (from, (from + BATCH).min(documents))).collect(),
        );
        let tally = Mutex::new(Tally::default());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let next = batches.lock().expect("no thread panics with it").pop();
                        let Some((from, to)) = next else { return };
                        let made = |at: u64| shape::document(&shape, &mut Rng::new(seed.wrapping_mul(1 << 32) + at));
                        let batch: Vec<Value> = (from..to).map(made).collect();
                        self.compare(package, batch, &tally);
                    }
                });
            }
        });
        tally.into_inner().expect("no thread panics with it")
    }

    fn compare(&self, package: &str, batch: Vec<Value>, tally: &Mutex<Tally>) {
        let begin = Instant::now();
        let theirs = self.theirs(package, &batch);
        let middle = Instant::now();
        let ours: Vec<Value> = batch.iter().map(|document| self.ours(package, document)).collect();
        let end = Instant::now();
        let mut tally = tally.lock().expect("no thread panics with it");
        tally.theirs += middle - begin;
        tally.ours += end - middle;
        for ((document, ours), theirs) in batch.into_iter().zip(ours).zip(theirs) {
            tally.documents += 1;
            tally.refused += u64::from(theirs["errors"] != json!([]));
            for concern in theirs["concerns"].as_array().into_iter().flatten() {
                tally.concerns += 1;
                tally.fired.insert(concern["id"].as_str().unwrap_or_default().to_owned());
            }
            if ours != theirs {
                tally.differences.push(document);
            }
        }
    }

    fn answers(&self, package: &str, document: &Value) -> (Value, Value) {
        let theirs = self.theirs(package, std::slice::from_ref(document)).remove(0);
        (self.ours(package, document), theirs)
    }

    fn ours(&self, package: &str, document: &Value) -> Value {
        match self.validator.query(&format!("io.konveyor.forklift.{package}.validate"), Some(document)) {
            Ok(answer) => sorted(answer.unwrap_or_default()),
            Err(error) => json!({"failed": error.to_string()}),
        }
    }

    fn theirs(&self, package: &str, batch: &[Value]) -> Vec<Value> {
        let answers = self.opa.query(&format!("batch/{package}"), &json!(batch)).expect("OPA answers");
        let Some(Value::Array(answers)) = answers else { panic!("OPA gives no list for {package}: {answers:?}") };
        assert_eq!(answers.len(), batch.len(), "OPA answers once for each document");
        answers.into_iter().map(sorted).collect()
    }

    /// Takes out of a document what does not matter to the difference.
    fn shrink(&self, package: &str, document: &Value) -> Value {
        let differs = |document: &Value| {
            let (ours, theirs) = self.answers(package, document);
            ours != theirs
        };
        let mut small = document.clone();
        while let Some(smaller) = smaller(&small).into_iter().find(differs) {
            small = smaller;
        }
        small
    }
}

/// Returns documents with one part less, the largest parts first.
fn smaller(document: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match document {
        Value::Array(items) => {
            found.extend([items[..items.len() / 2].into(), items[items.len() / 2..].into()]);
            found.retain(|half| half != document);
            for at in 0..items.len().min(20) {
                for part in smaller(&items[at]) {
                    let mut items = items.clone();
                    items[at] = part;
                    found.push(Value::Array(items));
                }
            }
        }
        Value::Object(object) => {
            for key in object.keys() {
                let mut less = object.clone();
                less.remove(key);
                found.push(Value::Object(less));
            }
            for (key, value) in object {
                for part in smaller(value) {
                    let mut object = object.clone();
                    object.insert(key.clone(), part);
                    found.push(Value::Object(object));
                }
            }
        }
        _ => {}
    }
    found
}

/// Sets have no order: both engines' lists are sorted before they are compared.
fn sorted(mut answer: Value) -> Value {
    for set in ["concerns", "errors"] {
        if let Some(items) = answer.get_mut(set).and_then(Value::as_array_mut) {
            items.sort_by_key(Value::to_string);
        }
    }
    answer
}

/// Returns rules by which OPA answers for a whole list of documents at once.
fn wrapper() -> String {
    let rules = inputs::PACKAGES.iter().map(|package| {
        format!(
            "{package} := [answer |\n\tsome document in input\n\tanswer := data.io.konveyor.forklift.{package}.validate with input as document\n]\n"
        )
    });
    format!("package batch\n\nimport rego.v1\n\n{}", rules.collect::<Vec<_>>().join("\n"))
}

/// Returns the ids of a package's rules, as their files name them.
fn ids(package: &str) -> BTreeSet<String> {
    let files = BUNDLED.iter().filter(|(name, _)| !name.ends_with("_test.rego"));
    let of_package = files.filter(|(name, _)| name.split('/').rev().nth(1) == Some(package));
    let lines = of_package.flat_map(|(_, text)| text.lines());
    lines.filter_map(|line| line.trim().strip_prefix("\"id\": \"")?.split('"').next()).map(str::to_owned).collect()
}
