//! Bad input gets an error that a person understands.

use std::path::Path;
use std::process::Command;

use forklift_testkit::appliance::{Appliance, Flaw};
use forklift_testkit::program;
use forklift_testkit::stack::{Stack, has_condition};

use crate::{NS, SHORT, provider, vm};

/// Runs `forklift migrate` and returns what it said when it failed.
fn refused(ova: &Path, out: &Path, more: &[&str]) -> String {
    let output = Command::new(program("forklift"))
        .arg("migrate")
        .args(more)
        .arg("--to")
        .args([out, ova])
        .output()
        .expect("forklift can be started");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn migrate_says_what_is_wrong_with_an_appliance() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let missing = refused(&folder.path().join("nothing.ova"), &out, &["--raw"]);
    assert!(missing.contains("nothing.ova") && missing.contains("No such file"), "{missing}");

    let garbage = folder.path().join("garbage.ova");
    std::fs::write(&garbage, [7; 4096]).expect("a file");
    let said = refused(&garbage, &out, &["--raw"]);
    assert!(said.contains("garbage.ova"), "{said}");

    let truncated =
        Appliance { flaw: Flaw::Truncated, ..Appliance::new("short") }.make(folder.path()).expect("an appliance");
    let said = refused(&truncated, &folder.path().join("out2"), &["--raw"]);
    assert!(said.contains("short-disk1.vmdk"), "{said}");
}

#[test]
fn plans_say_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    Appliance { networks: vec!["front".into(), "back".into()], ..Appliance::new("two") }
        .make(&catalog)
        .expect("an appliance");
    Appliance::new("one").make(&catalog).expect("an appliance");
    let stack = Stack::start(folder.path());

    let output = stack.try_mtv(&["create", "provider", "nowhere", "--type", "ova", "--url", "not a path", "-n", NS]);
    if output.status.success() {
        let provider = stack.wait("provider", NS, "nowhere", SHORT, |provider| has_condition(provider, "UrlNotValid"));
        assert!(provider["status"]["conditions"].to_string().contains("Malformed"), "{provider:#}");
    }

    provider(&stack, "appliances", &catalog);
    // a map that leaves a network out
    stack.mtv(&[
        "create",
        "plan",
        "unmapped",
        "--source",
        "appliances",
        "--target",
        "host",
        "--vms",
        "two",
        "--target-namespace",
        "bad",
        "--network-pairs",
        "front:default",
        "--skip-guest-conversion",
        "-n",
        NS,
    ]);
    let plan = stack.wait("plan", NS, "unmapped", SHORT, |plan| has_condition(plan, "VMNetworksNotMapped"));
    assert!(!has_condition(&plan, "Ready"));

    // a target name that somebody else has
    let taken = r#"{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"one","namespace":"taken"},"spec":{"runStrategy":"Halted","template":{"spec":{"domain":{"devices":{}}}}}}"#;
    let file = folder.path().join("taken.json");
    std::fs::write(&file, taken).expect("a file");
    stack.kubectl(&["create", "namespace", "taken"]);
    stack.kubectl(&["apply", "-f", file.to_str().expect("UTF-8")]);
    stack.mtv(&[
        "create",
        "plan",
        "taken",
        "--source",
        "appliances",
        "--target",
        "host",
        "--vms",
        "one",
        "--target-namespace",
        "taken",
        "--skip-guest-conversion",
        "-n",
        NS,
    ]);
    stack.wait("plan", NS, "taken", SHORT, |plan| has_condition(plan, "VMAlreadyExists"));
}

#[test]
fn no_space_is_said_before_the_disk_is_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    // larger than what the disk of a test machine has free, and almost nothing in it
    Appliance { size: 1 << 40, data: 1 << 20, ..Appliance::new("huge") }.make(&catalog).expect("an appliance");
    let stack = Stack::start(folder.path());
    provider(&stack, "appliances", &catalog);
    stack.mtv(&[
        "create",
        "plan",
        "huge",
        "--source",
        "appliances",
        "--target",
        "host",
        "--vms",
        "huge",
        "--target-namespace",
        "huge",
        "--skip-guest-conversion",
        "-n",
        NS,
    ]);
    stack.mtv(&["start", "plan", "huge", "-n", NS]);
    let plan = stack.wait("plan", NS, "huge", SHORT, |plan| {
        vm(plan, "huge").is_some_and(|vm| format!("{} {}", vm["waitingOn"], vm["error"]).contains("space"))
    });
    println!("{}", vm(&plan, "huge").map(|vm| format!("{} {}", vm["waitingOn"], vm["error"])).unwrap_or_default());
}
