//! A real appliance, three power cuts on the way, and the guest at its login prompt.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;

use crate::{CONVERSION, NS, SHORT, console, ready, slow_provider, step, vm};

const VM: &str = "webserver01";
const MIB: u64 = 1 << 20;

/// Returns the sample appliance that the set-up makes.
fn sample() -> PathBuf {
    let cache = || {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"))
            .join("forklift/guest/webserver01.ova")
    };
    let path = std::env::var_os("FORKLIFT_GUEST_OVA").map_or_else(cache, PathBuf::from);
    assert!(path.exists(), "{} is missing: `./x guest` makes the sample appliance", path.display());
    path
}

#[test]
fn an_appliance_becomes_a_running_vm_over_three_power_cuts() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = folder.path().join("catalog");
    std::fs::create_dir(&catalog).expect("a catalog");
    std::fs::copy(sample(), catalog.join("webserver01.ova")).expect("the sample can be copied");
    let mut stack = Stack::start(folder.path());
    slow_provider(&stack, "appliances", &catalog, 24 * MIB);
    stack.mtv(&[
        "create",
        "plan",
        "web",
        "--source",
        "appliances",
        "--target",
        "host",
        "--vms",
        VM,
        "--target-namespace",
        "web",
        "--target-power-state",
        "on",
        "-n",
        NS,
    ]);
    ready(&stack, "web");
    stack.mtv(&["start", "plan", "web", "-n", NS]);

    // the first cut: with a good part of the disk copied
    let copied = wait_for("150 MiB are copied", SHORT, || {
        let plan = stack.get("plan", NS, "web").ok_or("no plan")?;
        let done = vm(&plan, VM)
            .and_then(|vm| step(vm, "DiskTransfer"))
            .and_then(|step| step["progress"]["completed"].as_u64())
            .unwrap_or(0);
        assert_ne!(done, 1024, "the copy ended before the test could cut the power");
        if done >= 150 { Ok(done * MIB) } else { Err(format!("{done} MiB")) }
    });
    stack.kill();
    stack.up();

    // the second cut: while virt-v2v is at work
    let plan =
        stack.wait("plan", NS, "web", SHORT, |plan| vm(plan, VM).is_some_and(|vm| vm["phase"] == "ConvertGuest"));
    let transfer =
        vm(&plan, VM).and_then(|vm| step(vm, "DiskTransfer")).expect("the pipeline has a disk transfer").clone();
    let resumed: u64 = transfer["tasks"][0]["annotations"]["bytesResumed"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{transfer:#}"));
    assert!(
        copied <= resumed + 64 * MIB,
        "{copied} bytes were copied before the cut, only {resumed} of them were kept"
    );
    println!("copied before the cut {} MiB, kept {} MiB", copied / MIB, resumed / MIB);
    wait_for("virt-v2v runs", SHORT, || {
        let running = forklift_testkit::process::tree(stack.pid()).into_iter().any(|pid| {
            forklift_testkit::process::command_line(pid).contains("guestfsd")
                || forklift_testkit::process::command_line(pid).contains("qemu-system")
        });
        running.then_some(()).ok_or_else(|| "no appliance of libguestfs yet".to_string())
    });
    stack.kill();
    stack.up();

    // the third cut: the moment the VirtualMachine is there
    first_event(&stack, &["get", "virtualmachines", "-n", "web", "--watch", "-o", "name"]);
    stack.kill();
    stack.up();

    let plan = stack
        .wait("plan", NS, "web", CONVERSION, |plan| has_condition(plan, "Succeeded") || has_condition(plan, "Failed"));
    assert!(has_condition(&plan, "Succeeded"), "{plan:#}");
    for step in vm(&plan, VM).and_then(|vm| vm["pipeline"].as_array()).expect("a pipeline") {
        println!(
            "{:24} {} … {}",
            step["name"].as_str().unwrap_or_default(),
            step["started"].as_str().unwrap_or("-"),
            step["completed"].as_str().unwrap_or("-")
        );
    }
    for kind in ["virtualmachines", "persistentvolumeclaims"] {
        // the claim of the appliances' folder is the plan's, not a machine's
        let mut found = stack.list(kind, "web");
        found.retain(|object| object["metadata"]["labels"]["vmID"].is_string());
        assert_eq!(found.len(), 1, "{kind}: {found:#?}");
    }

    let screen = wait_for("the login prompt", CONVERSION, || {
        let text = console(&stack, "web", VM);
        if text.contains(&format!("{VM} login:")) { Ok(text) } else { Err(text) }
    });
    assert!(screen.contains("10.10.0.21"), "the static address is not on the screen:\n{screen}");
}

/// Returns when the command has printed a line; the command is ended then.
fn first_event(stack: &Stack, args: &[&str]) {
    let mut child = Command::new("kubectl")
        .args(args)
        .env("KUBECONFIG", stack.kubeconfig())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kubectl is installed");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("kubectl prints text");
    let _ = child.kill();
    let _ = child.wait();
    assert!(!line.is_empty(), "the watch ended without an event:\n{}", stack.log());
}
