//! The inspection of guests at their first snapshot: what is in them, and what keeps them from being copied.

use std::path::{Path, PathBuf};
use std::process::Command;

use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;
use serde_json::{Value, json};

use crate::vsphere::{base, left, no_lease, plan, provider};
use crate::vsphere_cold::sample;
use crate::{CONVERSION, NS, SHORT, step, vm};

const GOOD: &str = "webserver01";
const LOCKED: &str = "vault";
const MIB: u64 = 1 << 20;

/// Makes an encrypted disk of 20 MiB.
fn locked(folder: &Path) -> PathBuf {
    let path = folder.join("locked.raw");
    let secret = ["--object", "secret,id=key,data=correct-horse", "-o", "key-secret=key,iter-time=10"];
    // it measures how fast keys are derived, by a clock that on some machines stands still for so short a time
    wait_for("an encrypted disk", SHORT, || {
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "luks"])
            .args(secret)
            .arg(&path)
            .arg("20M")
            .output()
            .expect("qemu-img is installed");
        if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
    });
    path
}

/// Returns the inspection of a machine's plan.
fn inspection(stack: &Stack, plan: &str) -> Option<Value> {
    let all = stack.list("conversions.forklift.konveyor.io", NS);
    let of_plan = |conversion: &Value| {
        conversion["spec"]["type"] == "DeepInspection" && conversion["metadata"]["labels"]["plan-name"] == plan
    };
    all.into_iter().find(of_plan)
}

#[test]
fn guests_are_inspected_before_they_are_copied() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(vcenter) = Vcenter::start(Options {
        vms: 2,
        names: vec![GOOD.into(), LOCKED.into()],
        guest: "debian12_64Guest".into(),
        ..Options::default()
    }) else {
        return;
    };
    vcenter.put_disk(GOOD, 0, &sample(folder.path())).expect("the disk can be put");
    vcenter.put_disk(LOCKED, 0, &locked(folder.path())).expect("the disk can be put");
    let tracked = json!({"_typeName": "VirtualMachineConfigSpec", "changeTrackingEnabled": true});
    for name in [GOOD, LOCKED] {
        vcenter.reconfigure(name, &tracked).expect("a machine can be reconfigured");
    }
    let stack = Stack::start(folder.path());
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    for name in [GOOD, LOCKED] {
        plan(&stack, name, "vcenter", name, &["--migration-type", "warm"]);
    }
    vcenter.reset_calls().expect("counters");
    for name in [GOOD, LOCKED] {
        stack.mtv(&["start", "plan", name, "-n", NS]);
    }

    // nothing is copied of a guest that nobody can open, and its machine is as it was
    let failed = stack.wait("plan", NS, LOCKED, CONVERSION, |plan| {
        assert!(!has_condition(plan, "Succeeded"), "{plan:#}");
        has_condition(plan, "Failed")
    });
    let machine = vm(&failed, LOCKED).expect("the machine");
    let shown = step(machine, "PreflightInspection").expect("the step");
    let reasons = shown["error"]["reasons"].to_string();
    assert!(reasons.contains("VM deep inspection found critical concerns"), "{shown:#}");
    assert!(reasons.contains("encrypted with LUKS and no key was given"), "{shown:#}");
    assert_eq!(step(machine, "DiskTransfer").expect("the step")["phase"], "Pending", "{machine:#}");
    assert!(has_condition(&json!({"status": machine}), "InspectionHasConcerns"), "{machine:#}");
    assert!(stack.list("persistentvolumeclaims", LOCKED).is_empty(), "a volume was made");
    wait_for("its snapshot is gone", SHORT, || {
        let left = left(&vcenter, LOCKED);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert_eq!(vcenter.machine(LOCKED).expect("it is there")["power"], "poweredOn");

    // a sound guest is known before its first copy, and little of its disk was read for that
    let running = stack.wait("plan", NS, GOOD, CONVERSION, |plan| {
        assert!(!has_condition(plan, "Failed"), "{plan:#}");
        let inspected = vm(plan, GOOD).and_then(|vm| step(vm, "PreflightInspection")).map(|step| step["phase"].clone());
        inspected == Some(json!("Completed"))
    });
    let shown = step(vm(&running, GOOD).expect("the machine"), "PreflightInspection").expect("the step").clone();
    let found = inspection(&stack, GOOD).expect("the inspection");
    let result = &found["status"]["inspectionResult"];
    println!("{result:#}\n{shown:#}");
    assert_eq!((&found["status"]["phase"], &found["status"]["stage"]), (&json!("Succeeded"), &json!("Finished")));
    let os = &result["osInfo"];
    assert_eq!((&os["distro"], &os["version"], &os["arch"]), (&json!("debian"), &json!("12"), &json!("x86_64")));
    assert!(os["name"].as_str().is_some_and(|name| name.starts_with("debian 12")), "{os:#}");
    assert_eq!(result["mountpoints"], json!([{"device": "/dev/sda1", "mountPoint": "/"}]));
    let root = &result["filesystems"][0];
    assert_eq!((&root["device"], &root["type"]), (&json!("/dev/sda1"), &json!("ext4")));
    assert_eq!(root["uuid"].as_str().map(str::len), Some(36), "{root:#}");
    assert!(result["concerns"].is_null(), "{result:#}");
    let read = result["bytesRead"].as_u64().expect("a number");
    assert!(read > MIB && read < 200 * MIB, "{read} bytes");
    assert_eq!(shown["annotations"]["bytesRead"], json!(read.to_string()));
    let served = vcenter.calls().expect("counters").range_bytes(&base(&vcenter, GOOD, 0));
    assert!(served >= read / 2, "{served} bytes were served, {read} are said to be read");

    stack.mtv(&["cancel", "plan", GOOD, "--vms", GOOD, "-n", NS]);
    stack.wait("plan", NS, GOOD, CONVERSION, |plan| has_condition(plan, "Canceled"));
    assert_eq!(left(&vcenter, GOOD), Vec::<String>::new());
    no_lease(&vcenter);
}
