//! Canceled, or its plan deleted: a migration leaves nothing behind on the target.

use forklift_testkit::appliance::Appliance;
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;

use crate::{NS, SHORT, ready, slow_provider, step, vm};

const MIB: u64 = 1 << 20;

#[test]
fn a_canceled_migration_and_a_deleted_plan_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    Appliance { size: 128 * MIB, data: 96 * MIB, ..Appliance::new("one") }.make(&catalog).expect("an appliance");
    let stack = Stack::start(folder.path());
    slow_provider(&stack, "appliances", &catalog, 4 * MIB);
    let start = |plan: &str| {
        stack.mtv(
            &["create", "plan", plan, "--source", "appliances", "--target", "host", "--vms", "one"]
                .into_iter()
                .chain(["--target-namespace", plan, "--skip-guest-conversion", "-n", NS])
                .collect::<Vec<_>>(),
        );
        ready(&stack, plan);
        stack.mtv(&["start", "plan", plan, "-n", NS]);
        wait_for("the copy has begun", SHORT, || {
            let plan = stack.get("plan", NS, plan).ok_or("no plan")?;
            let transfer = vm(&plan, "one").and_then(|vm| step(vm, "DiskTransfer"));
            let done = transfer.and_then(|step| step["progress"]["completed"].as_u64()).unwrap_or(0);
            if done >= 8 { Ok(()) } else { Err(format!("{done} MiB")) }
        });
    };
    let nothing_left = |namespace: &str| {
        wait_for("nothing is left on the target", SHORT, || {
            for kind in ["virtualmachines", "jobs", "pods", "persistentvolumeclaims"] {
                let mut left = stack.list(kind, namespace);
                left.retain(|object| object["metadata"]["labels"]["vmID"].is_string());
                if let Some(object) = left.first() {
                    return Err(format!("{kind}: {object:#}"));
                }
            }
            Ok(())
        });
    };

    start("canceled");
    stack.mtv(&["cancel", "plan", "canceled", "--vms", "one", "-n", NS]);
    let plan = stack.wait("plan", NS, "canceled", SHORT, |plan| has_condition(plan, "Canceled"));
    let conditions = vm(&plan, "one").expect("the vm")["conditions"].to_string();
    assert!(conditions.contains("Canceled"), "{conditions}");
    nothing_left("canceled");

    start("deleted");
    stack.kubectl(&["delete", "plan", "deleted", "-n", NS, "--wait=false"]);
    nothing_left("deleted");
    assert!(stack.get("plan", NS, "deleted").is_none(), "the plan is still there");
}
