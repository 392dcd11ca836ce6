//! How conditions come and go.

use expect_test::{Expect, expect};
use forklift_api::condition::{Change, ConditionStatus, types};
use forklift_api::{Category, Condition, Conditions};
use jiff::Timestamp;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn warn(type_: &str, message: &str) -> Condition {
    Condition::new(type_, Category::Warn, message)
}

fn check(conditions: &Conditions, expected: Expect) {
    let lines: Vec<String> = conditions
        .into_iter()
        .map(|c| format!("{} {} @{}", c.type_, c.message, c.last_transition_time.0.as_second()))
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn what_is_not_found_again_goes() {
    let mut conditions = Conditions::default();
    conditions.set(warn("A", "first"), at(1));
    conditions.set(warn("B", "first"), at(1));
    conditions.set(warn("C", "first").durable(), at(1));

    conditions.begin_staging();
    conditions.set(warn("A", "first"), at(2));
    conditions.set(warn("D", "new"), at(2));
    conditions.end_staging();

    check(
        &conditions,
        expect![[r#"
        A first @1
        C first @1
        D new @2"#]],
    );
}

#[test]
fn the_time_changes_with_anything_that_is_said() {
    let mut conditions = Conditions::default();
    assert!(conditions.set(warn("A", "one VM").items(["web"]), at(1)));
    assert!(!conditions.set(warn("A", "one VM").items(["web"]), at(2)));
    assert!(conditions.set(warn("A", "one VM").items(["db"]), at(3)));
    check(&conditions, expect!["A one VM @3"]);
}

#[test]
fn a_type_is_there_once_and_the_last_wins() {
    let mut conditions = Conditions::default();
    conditions.set(warn("NotValid", "the name"), at(1));
    conditions.set(warn("NotValid", "the size"), at(1));
    check(&conditions, expect!["NotValid the size @1"]);
}

#[test]
fn look_ups_while_staging_see_this_pass_only() {
    let mut conditions = Conditions::default();
    conditions.set(Condition::new("A", Category::Critical, ""), at(1));
    assert!(conditions.has_blocker());
    conditions.begin_staging();
    assert!(!conditions.has("A") && !conditions.has_blocker() && conditions.find("A").is_none());
    conditions.stage("A");
    assert!(conditions.has("A") && conditions.has_blocker());
    conditions.remove("A");
    assert!(!conditions.has("A"));
    check(&conditions, expect!["A  @1"]);
    conditions.end_staging();
    assert!(conditions.is_empty());
}

#[test]
fn only_what_holds_counts() {
    let mut conditions = Conditions::default();
    conditions.set(Condition::new("A", Category::Error, "").status(ConditionStatus::False), at(1));
    assert!(conditions.find("A").is_some() && !conditions.has("A") && !conditions.has_blocker());
    conditions.set(Condition::new(types::READY, Category::Required, ""), at(1));
    assert!(conditions.is_ready());
    assert!(conditions.has_any(&["A", types::READY]) && !conditions.has_all(&["A", types::READY]));
    assert!(!conditions.has_all(&[]));
    conditions.set(Condition::new(types::VALIDATING_VDDK, Category::Advisory, ""), at(1));
    assert!(conditions.awaits_answer());
}

#[test]
fn changes_are_told_once_each() {
    let mut before = Conditions::default();
    before.set(warn("A", "same"), at(1));
    before.set(warn("B", "old"), at(1));
    before.set(warn("C", "gone"), at(1));
    let mut after = before.clone();
    after.begin_staging();
    after.set(warn("A", "same"), at(2));
    after.set(warn("B", "new"), at(2));
    after.set(warn("D", "came"), at(2));
    after.end_staging();
    let told: Vec<String> = after
        .changes_since(&before)
        .iter()
        .map(|change| match change {
            Change::Added(c) => format!("+ {} {}", c.type_, c.message),
            Change::Updated(c) => format!("~ {} {}", c.type_, c.message),
            Change::Deleted(c) => format!("- {} {}", c.type_, c.message),
        })
        .collect();
    expect![[r#"
        - C gone
        ~ B new
        + D came"#]]
    .assert_eq(&told.join("\n"));
}

#[test]
fn in_json_they_are_a_list() {
    let mut conditions = Conditions::default();
    conditions.set(
        Condition::new("ConnectionTestFailed", Category::Critical, "cannot reach the folder")
            .reason("Tested")
            .suggestion("check spec.url")
            .items(["/ova"]),
        at(0),
    );
    let text = serde_json::to_string_pretty(&conditions).expect("serialises");
    expect![[r#"
        [
          {
            "type": "ConnectionTestFailed",
            "status": "True",
            "reason": "Tested",
            "category": "Critical",
            "message": "cannot reach the folder",
            "suggestion": "check spec.url",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
            "items": [
              "/ova"
            ]
          }
        ]"#]]
    .assert_eq(&text);
    assert_eq!(serde_json::from_str::<Conditions>(&text).expect("a list"), conditions);
}

#[test]
fn a_category_of_the_future_does_not_break_the_list() {
    let read: Conditions = serde_json::from_value(serde_json::json!([{
        "type": "X", "status": "Perhaps", "category": "Weird", "lastTransitionTime": "2026-08-01T10:00:00Z"
    }]))
    .expect("a list");
    assert!(read.find("X").is_some_and(|c| c.category == Category::Unknown && !c.is_true()));
}
