//! Two appliances in one plan, one of them broken: each has its own fate, and a restart does only what is left.

use forklift_testkit::appliance::{Appliance, Flaw};
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;

use crate::{NS, SHORT, appliances, console, provider, ready, vm};

#[test]
fn a_broken_appliance_fails_alone_and_only_it_is_migrated_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    Appliance::new("good").make(&catalog).expect("an appliance");
    let broken = Appliance { flaw: Flaw::Digest, ..Appliance::new("broken") };
    broken.make(&catalog).expect("an appliance");

    let stack = Stack::start(folder.path());
    provider(&stack, "appliances", &catalog);
    stack.mtv(&[
        "create",
        "plan",
        "both",
        "--source",
        "appliances",
        "--target",
        "host",
        "--vms",
        "good,broken",
        "--target-namespace",
        "both",
        "--target-power-state",
        "on",
        "--skip-guest-conversion",
        "-n",
        NS,
    ]);
    ready(&stack, "both");
    stack.mtv(&["start", "plan", "both", "-n", NS]);

    let plan =
        stack.wait("plan", NS, "both", SHORT, |plan| has_condition(plan, "Failed") || has_condition(plan, "Succeeded"));
    let (good, bad) = (vm(&plan, "good").expect("good"), vm(&plan, "broken").expect("broken"));
    assert!(conditions(good).contains("Succeeded"), "{good:#}");
    assert!(conditions(bad).contains("Failed"), "{bad:#}");
    let reason = bad["error"]["reasons"].to_string();
    assert!(
        reason.contains("broken-disk1.vmdk") && reason.contains("manifest"),
        "the reason does not say what is wrong with what: {reason}"
    );
    println!("reason: {reason}");
    let described = stack.mtv(&["describe", "plan", "both", "--with-vms", "-n", NS]);
    assert!(described.contains("manifest"), "{described}");
    wait_for("the good guest runs", SHORT, || {
        let text = console(&stack, "both", "good");
        if text.contains("good is running") { Ok(()) } else { Err(text) }
    });

    // repaired, the plan is started again
    let first = stack.get("virtualmachine", "both", "good").expect("the good one exists")["metadata"]["uid"].clone();
    let before = modified(&appliances(&stack, "appliances", |_| true));
    Appliance { flaw: Flaw::None, ..broken }.make(&catalog).expect("an appliance");
    appliances(&stack, "appliances", |list| modified(list) != before);
    let old_end = good["completed"].clone();
    // the appliance's VM was gone while its file settled: the plan is ready again once the inventory and then
    // the plan have followed, and until then a start is refused
    wait_for("the plan can be started again", SHORT, || {
        let start = stack.try_mtv(&["start", "plan", "both", "-n", NS]);
        if start.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&start.stderr).into_owned()) }
    });
    let plan = stack.wait("plan", NS, "both", SHORT, |plan| has_condition(plan, "Succeeded"));
    assert_eq!(vm(&plan, "good").expect("good")["completed"], old_end, "the finished one was touched");
    assert_eq!(stack.get("virtualmachine", "both", "good").expect("the good one exists")["metadata"]["uid"], first);
    wait_for("the repaired guest runs", SHORT, || {
        let text = console(&stack, "both", "broken");
        if text.contains("broken is running") { Ok(()) } else { Err(text) }
    });
}

/// When the broken appliance's file was last written.
fn modified(appliances: &[serde_json::Value]) -> Option<String> {
    let broken = appliances.iter().find(|appliance| appliance["file"] == "broken.ova")?;
    broken["modified"].as_str().map(str::to_owned)
}

fn conditions(vm: &serde_json::Value) -> String {
    vm["conditions"].to_string()
}
