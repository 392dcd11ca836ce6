//! Rules of users that go wrong: answered within the limit, named, and harmless to the others.

use std::time::{Duration, Instant};

use forklift_validation::{Limits, RuleFile, Validator};
use serde_json::json;

const HEAD: &str = "package io.konveyor.forklift.ova\n\nimport rego.v1\n\n";

fn rule(name: &str, body: &str) -> RuleFile {
    RuleFile::new(name, format!("{HEAD}{body}\n"))
}

fn limits() -> Limits {
    Limits { time: Duration::from_millis(100), memory: 8 << 20 }
}

/// The concerns of a VM under these rules, and how long they took.
fn concerns(validator: &Validator) -> (Vec<String>, Duration) {
    let vm = json!({"name": "a_b", "exportSource": "VMware", "n": 3, "disks": [{"FilePath": "x", "Capacity": 5}]});
    let start = Instant::now();
    let found = validator.concerns("ova", &vm).expect("the other rules hold");
    let lines = found.into_iter().map(|c| match c.id.as_str() {
        "forklift.rule.failed" => format!("{}: {}", c.label, c.assessment.split(". ").next().unwrap_or_default()),
        "" => c.label,
        _ => c.id,
    });
    (lines.collect(), start.elapsed())
}

/// A deadline that even a loaded machine keeps, and no loop of these rules would.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn rules_that_do_not_end_or_make_too_much_are_stopped_and_named() {
    let good = rule("good.rego", "concerns contains {\"id\": \"site.good\"} if input.n == 3");
    let cases = [
        // a product that would take longer than the universe is old
        (
            "concerns contains {\"id\": \"site.bad\"} if {\n\txs := numbers.range(1, 5000)\n\tsome a in xs\n\tsome b in xs\n\tsome c in xs\n\ta + b + c == 0\n}",
            "A validation rule failed: bad.rego:",
            "the rule took longer than 100 ms",
        ),
        // a huge comprehension
        (
            "concerns contains {\"id\": \"site.bad\"} if {\n\txs := numbers.range(1, 2000)\n\tall := [[a, b] | some a in xs; some b in xs]\n\tcount(all) == 7\n}",
            "A validation rule failed: bad.rego:",
            "the rule made more than 8 MiB of values",
        ),
        // one call
        (
            "concerns contains {\"id\": \"site.bad\"} if count(numbers.range(1, 100000000000)) == 7",
            "A validation rule failed: bad.rego:5",
            "the rule made more than 8 MiB of values",
        ),
        // doubling strings
        (
            "s0 := \"0123456789abcdef0123456789abcdef\"\ndouble(s) := concat(\"\", [s, s, s, s, s, s, s, s])\nconcerns contains {\"id\": \"site.bad\"} if {\n\tx := double(double(double(double(double(double(double(double(double(s0)))))))))\n\tcount(x) == 7\n}",
            "A validation rule failed: bad.rego:6",
            "the rule made more than 8 MiB of values",
        ),
        (
            "concerns contains {\"id\": \"site.bad\"} if sprintf(\"%1000000000d\", [1]) == \"x\"",
            "A validation rule failed: bad.rego:5",
            "the rule made more than 8 MiB of values",
        ),
        // a conflict
        (
            "size := 1 if input.n > 1\nsize := 2 if input.n > 2\nconcerns contains {\"id\": \"site.bad\"} if size == 1",
            "A validation rule failed: bad.rego:6",
            "complete rules must not produce multiple outputs: `size` is 1 and 2",
        ),
        // reaching outside
        (
            "concerns contains {\"id\": \"site.bad\"} if http.send({\"url\": \"http://127.0.0.1\"}).status_code == 200",
            "A validation rule failed: bad.rego:5",
            "`http.send` is not allowed in validation rules",
        ),
    ];
    for (text, label, reason) in cases {
        let validator = Validator::with_files(&[good.clone(), rule("bad.rego", text)]).with_limits(limits());
        assert_eq!(validator.rule_errors(), [], "{text}");
        let (found, took) = concerns(&validator);
        assert_eq!(found.len(), 3, "{text}: {found:?}");
        assert!(found[0].starts_with(label) && found[0].ends_with(reason), "{text}: {found:?}");
        assert_eq!(found[1..], ["ova.name.invalid", "site.good"], "{text}");
        assert!(took < DEADLINE, "{text} took {took:?}");
        let errors: Vec<String> = validator.rule_errors().iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("bad.rego:") && errors[0].contains(reason), "{errors:?}");
    }
}

#[test]
fn a_rule_that_exceeds_its_limits_again_and_again_is_set_aside() {
    let endless = "concerns contains {\"id\": \"site.bad\"} if {\n\txs := numbers.range(1, 5000)\n\tsome a in xs\n\tsome b in xs\n\tsome c in xs\n\ta + b + c == 0\n}";
    let validator = Validator::with_files(&[rule("bad.rego", endless)]).with_limits(limits());
    for _ in 0..3 {
        assert!(concerns(&validator).0[0].contains("took longer than 100 ms"));
    }
    let start = Instant::now();
    for _ in 0..1000 {
        assert!(concerns(&validator).0[0].contains("it is set aside until the rules change"));
    }
    assert!(start.elapsed() < DEADLINE, "a thousand VMs took {:?}", start.elapsed());
    validator.replace(&[rule("bad.rego", "concerns contains {\"id\": \"site.mended\"} if true")]);
    assert_eq!(concerns(&validator).0, ["ova.name.invalid", "site.mended"]);
}

#[test]
fn a_users_rule_that_breaks_a_bundled_one_does_not_take_it_along() {
    // another definition of a bundled helper, which disagrees for some VMs only
    let validator = Validator::with_files(&[rule("bad.rego", "valid_vm_name := \"maybe\" if input.n == 3")]);
    assert_eq!(validator.rule_errors(), []);
    let vm = json!({"name": "good", "exportSource": "VirtualBox", "n": 3});
    let found = validator.concerns("ova", &vm).expect("the other rules hold");
    let labels: Vec<&str> = found.iter().map(|concern| concern.label.as_str()).collect();
    assert_eq!(labels, ["A validation rule failed: bad.rego:5", "Unsupported OVA source"]);
    assert!(found[0].assessment.starts_with("complete rules must not produce multiple outputs"), "{found:?}");
}

#[test]
fn a_users_rule_that_breaks_the_answer_itself_is_passed_over() {
    let validator = Validator::with_files(&[
        rule("bad.rego", "RULES_VERSION := 9 if input.n == 3"),
        rule("good.rego", "concerns contains {\"id\": \"site.good\"} if true"),
    ]);
    assert_eq!(validator.rule_errors(), []);
    let vm = json!({"name": "a_b", "exportSource": "VMware", "n": 3});
    let found = validator.concerns("ova", &vm).expect("the bundled rules hold");
    assert_eq!(found.iter().map(|concern| concern.id.as_str()).collect::<Vec<_>>(), ["ova.name.invalid"]);
    let errors = validator.rule_errors();
    assert!(errors.len() == 1 && errors[0].message.contains("`RULES_VERSION`"), "{errors:?}");
}

#[test]
fn the_guides_rule_in_the_older_dialect_loads_and_fires() {
    let text = r#"package io.konveyor.forklift.vmware

has_multiple_disks {
  count(input.disks) > 1
}

concerns[flag] {
  has_multiple_disks
  flag := {
    "category": "Information",
    "label": "Multiple disks detected",
    "assessment": "Multiple disks detected on this VM."
  }
}
"#;
    let validator = Validator::with_files(&[RuleFile::new("vmware_multiple_disks.rego", text)]);
    assert_eq!(validator.rule_errors(), []);
    let found = validator.concerns("vsphere", &json!({"name": "vm", "disks": [{}, {}]})).expect("the rules hold");
    assert!(found.iter().any(|c| c.id.is_empty() && c.label == "Multiple disks detected"), "{found:?}");
    let found = validator.concerns("vsphere", &json!({"name": "vm", "disks": [{}]})).expect("the rules hold");
    assert!(!found.iter().any(|c| c.label == "Multiple disks detected"), "{found:?}");
}

#[test]
fn helpers_may_be_in_files_of_their_own_whatever_their_order() {
    let validator = Validator::with_files(&[
        rule("a.rego", "concerns contains {\"id\": \"site.big\"} if is_big(input.n)"),
        rule("z_helpers.rego", "is_big(n) if n > limit\n\nlimit := 2"),
    ]);
    assert_eq!(validator.rule_errors(), []);
    assert!(concerns(&validator).0.contains(&"site.big".to_owned()));
}

#[test]
fn odd_concerns_are_shown_rather_than_lost() {
    let validator = Validator::with_files(&[rule(
        "odd.rego",
        "concerns contains 5 if true\n\nconcerns contains {\"label\": 7} if true",
    )]);
    let found = validator.concerns("ova", &json!({"name": "a", "exportSource": "VMware"})).expect("the rules hold");
    let shown: Vec<&str> = found.iter().map(|concern| concern.assessment.as_str()).collect();
    assert_eq!(shown, ["5", "{\"label\":7}"]);
}
