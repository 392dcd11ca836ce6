//! The rules' own tests pass here and under `opa test`, the same ones.

use std::collections::BTreeSet;
use std::process::Command;

use forklift_testkit::peers::opa::Opa;
use forklift_validation::{BUNDLED, suite};
use serde_json::Value;

use crate::bundled;

#[test]
fn the_same_tests_pass_here_and_under_opa() {
    let outcomes = suite::run(BUNDLED.iter().copied());
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let ours: BTreeSet<String> = outcomes.into_iter().map(|outcome| outcome.test).collect();

    let Some(opa) = Opa::program() else { return };
    let output = Command::new(opa).args(["test", "--format", "json"]).arg(bundled()).output().expect("opa runs");
    let results: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let of = |result: &Value| format!("{}.{}", text(&result["package"]), text(&result["name"]));
    let failed: Vec<_> = results.iter().filter(|result| result.get("fail").is_some()).map(of).collect();
    assert!(failed.is_empty() && output.status.success(), "under OPA these fail: {failed:?}");
    let theirs: BTreeSet<String> = results.iter().map(of).collect();
    assert_eq!(ours, theirs);
    println!("{} tests pass here and under OPA", ours.len());
}

#[test]
fn opa_finds_no_fault_with_the_rules_text() {
    let Some(opa) = Opa::program() else { return };
    for command in [&["check", "--strict"][..], &["fmt", "--fail", "--diff"][..]] {
        let output = Command::new(&opa).args(command).arg(bundled()).output().expect("opa runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "opa {}: {said}", command.join(" "));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
