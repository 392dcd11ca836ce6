//! Hooks run real playbooks around a migration, and a failing one stops it.

use forklift_testkit::appliance::Appliance;
use forklift_testkit::stack::{Stack, has_condition};

use crate::{NS, SHORT, provider, ready, step, vm};

/// A playbook that reads what hooks are given; it fails where the plan is not the one it should be.
const CHECKS: &str = r#"
- name: look at the migration
  hosts: localhost
  gather_facts: false
  tasks:
    - include_vars: {file: /tmp/hook/plan.yml, name: plan}
    - include_vars: {file: /tmp/hook/workload.yml, name: workload}
    - assert:
        that:
          - plan.targetNamespace == "hooked"
          - (workload.vm | default(workload)).name == "one"
"#;

/// A playbook that always fails.
const FAILS: &str =
    "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - fail: {msg: the load balancer is not ready}\n";

#[test]
fn playbooks_run_before_and_after_and_a_failing_one_stops_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    Appliance::new("one").make(&catalog).expect("an appliance");
    let stack = Stack::start(folder.path());
    provider(&stack, "appliances", &catalog);
    for (name, playbook) in [("checks", CHECKS), ("fails", FAILS)] {
        let file = folder.path().join(format!("{name}.yml"));
        std::fs::write(&file, playbook).expect("a file");
        stack.mtv(&["create", "hook", name, "--playbook", &format!("@{}", file.display()), "-n", NS]);
    }
    let create = |plan: &str, namespace: &str, pre: &str, post: &str| {
        stack.mtv(
            &["create", "plan", plan, "--source", "appliances", "--target", "host", "--vms", "one"]
                .into_iter()
                .chain([
                    "--target-namespace",
                    namespace,
                    "--skip-guest-conversion",
                    "--pre-hook",
                    pre,
                    "--post-hook",
                    post,
                    "-n",
                    NS,
                ])
                .collect::<Vec<_>>(),
        );
        ready(&stack, plan);
        stack.mtv(&["start", "plan", plan, "-n", NS]);
        stack.wait("plan", NS, plan, SHORT, |plan| has_condition(plan, "Succeeded") || has_condition(plan, "Failed"))
    };

    let plan = create("hooked", "hooked", "checks", "checks");
    assert!(has_condition(&plan, "Succeeded"), "{plan:#}");
    for name in ["PreHook", "PostHook"] {
        let hook = vm(&plan, "one").and_then(|vm| step(vm, name)).unwrap_or_else(|| panic!("no step {name}: {plan:#}"));
        assert_eq!(hook["phase"], "Completed", "{hook:#}");
    }

    let plan = create("stopped", "stopped", "fails", "checks");
    assert!(has_condition(&plan, "Failed"), "{plan:#}");
    let reasons = vm(&plan, "one").expect("the vm")["error"]["reasons"].to_string();
    assert!(reasons.contains("playbook failed") && reasons.contains("kubectl logs"), "{reasons}");
    println!("reason: {reasons}");
    assert!(stack.list("virtualmachines", "stopped").is_empty(), "the machine was made although its hook failed");
    assert!(stack.list("jobs", "stopped").is_empty(), "disks were copied although the hook before failed");
}
