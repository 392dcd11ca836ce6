//! `forklift policy` as its users see it: whole outputs.

use std::path::Path;

use clap::Parser;
use expect_test::{Expect, expect};
use forklift_validation::cli::{self, PolicyArgs};
use serde_json::{Value, json};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs a command; `$DIR` in it is the folder.
fn run(folder: &Path, command: &str) -> (u8, String) {
    let words = command.split_whitespace().map(|word| word.replace("$DIR", folder.to_str().expect("UTF-8")));
    let program = Program::try_parse_from(std::iter::once("policy".to_owned()).chain(words)).expect("it parses");
    let mut out = Vec::new();
    let code = cli::write(&program.policy, &|_| Err("no inventory here".into()), &mut out);
    (code, String::from_utf8(out).expect("UTF-8").replace(folder.to_str().expect("UTF-8"), "$DIR"))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        std::fs::write(path, text).expect("writable");
    }
    folder
}

const NICS: &str = r#"package io.konveyor.forklift.vmware

import rego.v1

max_nics := 2

concerns contains flag if {
	count(input.nics) > max_nics
	flag := {
		"id": "site.nics.many",
		"category": "Warning",
		"label": sprintf("%d network adapters", [count(input.nics)]),
		"assessment": "The target network has room for two.",
	}
}
"#;

const NICS_TEST: &str = r#"package io.konveyor.forklift.vmware

import rego.v1

test_many if {
	found := {c.id | some c in concerns} with input as {"name": "a", "nics": [{}, {}, {}]}
	"site.nics.many" in found
}

test_few if {
	found := {c.id | some c in concerns} with input as {"name": "a", "nics": [{}]}
	found == {"site.nics.many"}
}
"#;

fn estate() -> String {
    let vm = |name: &str, nics: usize, snapshot: &str| json!({"id": format!("id-{name}"), "name": name, "nics": vec![json!({}); nics], "snapshot": {"kind": snapshot}});
    [vm("web", 1, ""), vm("db", 3, "VirtualMachineSnapshot"), vm("mail", 3, "")]
        .iter()
        .map(|vm| format!("{vm}\n"))
        .collect()
}

/// Times differ from run to run.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.rsplit_once(", ") {
            Some((rest, time)) if time.ends_with(" ms") => out += rest,
            _ => out += line,
        }
        out.push('\n');
    }
    out
}

fn check(folder: &Path, command: &str, code: u8, expected: Expect) {
    let (ended, text) = run(folder, command);
    expected.assert_eq(&timeless(&text));
    assert_eq!(ended, code, "{command}");
}

#[test]
fn tests_of_rules_tell_which_line_does_not_hold_and_what_is_not_reached() {
    let folder = folder(&[
        ("rules/nics.rego", NICS),
        ("rules/nics_test.rego", NICS_TEST),
        ("rules/broken.rego", "package x\np := [\n"),
    ]);
    check(
        folder.path(),
        "test $DIR/rules --coverage",
        1,
        expect![[r#"
        FAIL  broken.rego  1 test
              ✘ (cannot be used) (broken.rego:3)
                expected a value, found the end of the file
        FAIL  nics_test.rego  2 tests
              ✘ test_few (nics_test.rego:10)
                line 12 does not hold: it is set()

        coverage
          100 %  nics.rego

        1 passed, 2 failed, 100 % of the lines reached
    "#]],
    );
}

#[test]
fn results_of_tests_are_there_for_programs_too() {
    let folder = folder(&[("nics.rego", NICS), ("nics_test.rego", NICS_TEST)]);
    let (code, text) = run(folder.path(), "test $DIR -o json");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, 1);
    let passed: Vec<(&str, bool)> = report["tests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|test| (test["test"].as_str().unwrap_or_default(), test["passed"] == true))
        .collect();
    assert_eq!(
        passed,
        [("data.io.konveyor.forklift.vmware.test_few", false), ("data.io.konveyor.forklift.vmware.test_many", true)]
    );
    let (_, text) = run(folder.path(), "test $DIR -o junit --run test_many");
    let without_times: String = text
        .split('"')
        .enumerate()
        .map(|(i, part)| {
            if part.parse::<f64>().is_ok() && part.contains('.') {
                "T".to_owned()
            } else if i == 0 {
                part.to_owned()
            } else {
                format!("\"{part}")
            }
        })
        .collect();
    expect![[r#"
        <?xml version=T" encoding="UTF-8"?>
        <testsuites name="policy" tests="1" failures="0">
          <testsuite name="nics_test.rego" tests="1" failures="0" time=T">
            <testcase name="test_many" classname="nics_test.rego" file="nics_test.rego" line="5" time=T"/>
          </testsuite>
        </testsuites>
    "#]]
    .assert_eq(&without_times);
}

#[test]
fn concerns_of_saved_vms_are_shown() {
    let folder = folder(&[("rules/nics.rego", NICS), ("vms.json", &estate())]);
    check(
        folder.path(),
        "eval --provider vsphere --from $DIR/vms.json --rules $DIR/rules",
        0,
        expect![[r#"
        web  0 concerns
        db  2 concerns
          Warning      site.nics.many            3 network adapters
          Information  vmware.snapshot.detected  VM snapshot detected
        mail  1 concern
          Warning      site.nics.many  3 network adapters

        3 VMs: 0 critical, 2 warnings, 1 for information
    "#]],
    );
    let (code, text) = run(folder.path(), "eval --provider vsphere --vm id-db --from $DIR/vms.json -o json");
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, 0);
    assert_eq!(found[0]["name"], "db");
    assert_eq!(found[0]["concerns"][0]["id"], "vmware.snapshot.detected", "{found}");
}

#[test]
fn a_trace_shows_the_statements_that_made_a_rule_fire_or_not() {
    let folder = folder(&[("rules/nics.rego", NICS), ("vms.json", &estate())]);
    check(
        folder.path(),
        "trace -p vsphere --vm db --from $DIR/vms.json --rules $DIR/rules",
        0,
        expect![[r#"
            db

              vmware.snapshot.detected  fires  (io/konveyor/forklift/vmware/snapshot.rego:7)
                Information: VM snapshot detected
                ✔    5    has_snapshot if input.snapshot.kind == "VirtualMachineSnapshot"  ⇒ ["VirtualMachineSnapshot", "VirtualMachineSnapshot"]
                ✔    8  has_snapshot  ⇒ true
                ✔    9  flag := {  ⇒ {"assessment": "The VM is migrated in its present state. Its snapshots stay at t…

              site.nics.many  fires  (nics.rego:7)
                Warning: 3 network adapters
                ✔    8  count(input.nics) > max_nics  ⇒ [3, 2]
                ✔   12  "label": sprintf("%d network adapters", [count(input.nics)]),  ⇒ [3, "3 network adapters"]
                ✔    9  flag := {  ⇒ {"assessment": "The target network has room for two.", "category": "Warning", "i…
        "#]],
    );
    check(
        folder.path(),
        "trace -p vsphere --vm web --from $DIR/vms.json --rules $DIR/rules --concern site.nics",
        0,
        expect![[r#"
            web

              site.nics.many  does not fire  (nics.rego:7)
                ✘    8  count(input.nics) > max_nics  ⇒ [1, 2]
        "#]],
    );
}

#[test]
fn a_comparison_tells_which_vms_gain_or_lose_what() {
    let stricter = NICS.replace("max_nics := 2", "max_nics := 0");
    let folder = folder(&[("old/nics.rego", NICS), ("new/nics.rego", &stricter), ("vms.json", &estate())]);
    check(
        folder.path(),
        "diff $DIR/old $DIR/new -p vsphere --from $DIR/vms.json --exit-code",
        1,
        expect![[r#"
        web
          + Warning      site.nics.many  1 network adapters

        site.nics.many  Warning          +1      -0
        1 of 3 VMs change
    "#]],
    );
    check(
        folder.path(),
        "diff $DIR/old bundled -p vsphere --from $DIR/vms.json",
        0,
        expect![[r#"
        db
          - Warning      site.nics.many  3 network adapters
        mail
          - Warning      site.nics.many  3 network adapters

        site.nics.many  Warning          +0      -2
        2 of 3 VMs change
    "#]],
    );
    check(
        folder.path(),
        "diff $DIR/old $DIR/old -p vsphere --from $DIR/vms.json --exit-code",
        0,
        expect![[r#"
        0 of 3 VMs change
    "#]],
    );
}

#[test]
fn a_folder_with_a_version_of_its_own_takes_the_place_of_the_bundled_rules() {
    let own = format!(
        "{NICS}\nRULES_VERSION := 42\n\nvalidate := {{\"rules_version\": RULES_VERSION, \"errors\": [], \"concerns\": concerns}}\n"
    );
    let folder = folder(&[("own/nics.rego", &own), ("vms.json", &estate())]);
    check(
        folder.path(),
        "eval -p vsphere --vm db --from $DIR/vms.json --rules $DIR/own",
        0,
        expect![[r#"
        db  1 concern
          Warning      site.nics.many  3 network adapters
    "#]],
    );
}

#[test]
fn what_cannot_be_done_ends_with_2() {
    let folder = folder(&[("vms.json", &estate()), ("bad.json", "[1]"), ("rules/a.rego", "package x\n")]);
    for command in [
        "eval -p vsphere",
        "eval -p nobody --from $DIR/vms.json",
        "eval -p vsphere --from $DIR/none.json",
        "eval -p vsphere --from $DIR/bad.json",
        "eval -p vsphere --vm nobody --from $DIR/vms.json",
        "eval -p vsphere --from $DIR/vms.json --rules $DIR/none",
        "eval -p vsphere --from $DIR/vms.json -o junit",
        "test $DIR/none",
        "test $DIR/rules",
        "trace -p vsphere --vm web --from $DIR/vms.json --concern nobody.knows",
        "eval -p vsphere --inventory https://127.0.0.1:1",
    ] {
        assert_eq!(run(folder.path(), command), (2, String::new()), "{command}");
    }
}
