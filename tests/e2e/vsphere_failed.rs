//! Migrations from vSphere that fail leave the source as they found it: power, snapshots and every byte.

use std::path::Path;
use std::time::Duration;

use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;
use serde_json::{Value, json};

use crate::vsphere::{no_lease, plan, provider};
use crate::{NS, SHORT, vm};

const MIB: u64 = 1 << 20;
/// Time for a migration whose importers are tried as often as it goes, with the pauses between.
const LONG: Duration = Duration::from_secs(15 * 60);

/// A source as a person sees it.
#[derive(Debug, PartialEq)]
struct Found {
    power: Value,
    snapshots: Vec<String>,
    /// Files of the disks, and how many there are for each: a delta that is left counts.
    disks: Vec<(Value, Value, Value)>,
    /// Digests of the disks.
    bytes: Vec<(String, u64)>,
}

fn look(vcenter: &Vcenter, name: &str) -> Found {
    let machine = vcenter.machine(name).expect("it is there");
    let disks = machine["disks"].as_array().expect("it has disks").clone();
    Found {
        power: machine["power"].clone(),
        snapshots: vcenter.snapshots(name).expect("it is there"),
        bytes: (0..disks.len()).map(|disk| vcenter.read_disk(name, disk, None).expect("a digest")).collect(),
        disks: disks.iter().map(|disk| (disk["file"].clone(), disk["layers"].clone(), disk["key"].clone())).collect(),
    }
}

fn start(names: &[&str]) -> Option<Vcenter> {
    let vcenter = Vcenter::start(Options {
        vms: names.len() as u32,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        disk_size: 16 * MIB,
        lease_timeout: Duration::from_secs(10),
        ..Options::default()
    })?;
    for (number, name) in (1u8..).zip(names) {
        for at in 0..8 {
            vcenter.write(name, 0, at * 2 * MIB + 7, &[number + at as u8; 70_000]).expect("a guest writes");
        }
    }
    Some(vcenter)
}

/// Writes 8 MiB that do not compress, so that a slow host takes its time over them.
fn fill(vcenter: &Vcenter, name: &str) {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for at in 0..8 {
        let bytes: Vec<u8> = (0..MIB).map(|_| noise()).collect();
        vcenter.write(name, 0, at * 2 * MIB, &bytes).expect("a guest writes");
    }
}

/// Waits for the end of a plan, which is a failure for this reason, and for the source to be as it was.
fn failed(stack: &Stack, vcenter: &Vcenter, name: &str, reason: &str, before: &Found, deadline: Duration) {
    let ended = |plan: &Value| has_condition(plan, "Succeeded") || has_condition(plan, "Failed");
    let plan = stack.wait("plan", NS, name, deadline, ended);
    assert!(has_condition(&plan, "Failed"), "{plan:#}");
    let machine = vm(&plan, name).expect("its state");
    let reasons = machine["error"]["reasons"].to_string();
    assert!(reasons.contains(reason), "{reasons}");
    assert!(!reasons.contains("clean-up was given up"), "{reasons}");
    // the plan ends after its clean-up: nothing is waited for here
    assert_eq!(&look(vcenter, name), before, "{name}: the source is as it was found; {machine:#}");
    no_lease(vcenter);
    let secrets = stack.list("secrets", name);
    assert!(secrets.iter().all(|secret| secret["metadata"]["labels"].get("vmID").is_none()), "{secrets:#?}");
    assert!(running_importers(stack, name).is_empty(), "no importer reads any more");
}

fn running_importers(stack: &Stack, namespace: &str) -> Vec<Value> {
    let mut pods = stack.list("pods", namespace);
    pods.retain(|pod| pod["status"]["phase"] == "Running");
    pods
}

/// Lets disks be exported only, and no export succeed.
fn no_reader(vcenter: &Vcenter, export: &str) {
    vcenter.fault(&Fault::NoRanges(vec!["OTHER".into()])).expect("a switch");
    vcenter.fault(&Fault::Fail(export.into(), "NotSupported".into(), -1, 0)).expect("a switch");
}

fn migrate(stack: &Stack, name: &str, more: &[&str]) {
    let mut args = vec!["--skip-guest-conversion"];
    args.extend(more);
    plan(stack, name, "vcenter", name, &args);
    stack.mtv(&["start", "plan", name, "-n", NS]);
}

/// A machine of the same name that somebody made meanwhile.
fn take_name(stack: &Stack, folder: &Path, name: &str) {
    let taken = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": name},
        "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}}});
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, taken.to_string()).expect("can be written");
    stack.kubectl(&["apply", "-f", file.to_str().expect("UTF-8")]);
}

#[test]
fn a_failed_cold_migration_leaves_the_source_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(vcenter) = start(&["runs", "rests", "named"]) else { return };
    vcenter.power("rests", false).expect("is switched off");
    fill(&vcenter, "named");
    let stack = Stack::start_env(folder.path(), &[("IMPORTER_RETRY", "1")]);
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    let names = ["runs", "rests", "named"];
    let [runs, rests, named] = names.map(|name| look(&vcenter, name));
    no_reader(&vcenter, "ExportVm");
    vcenter.reset_calls().expect("counters");
    migrate(&stack, "runs", &[]);
    migrate(&stack, "rests", &[]);
    failed(&stack, &vcenter, "runs", "NotSupported", &runs, SHORT);
    failed(&stack, &vcenter, "rests", "NotSupported", &rests, SHORT);
    let calls = vcenter.calls().expect("counters");
    // one was shut down and started again, the other was left alone
    assert_eq!((calls.of("ShutdownGuest"), calls.of("PowerOnVM_Task")), (1, 1), "{:?}", calls.methods());

    // all is copied, and then the name is somebody else's: the copy takes 16 s, taking the name a few
    vcenter.fault(&Fault::Clear).expect("a switch");
    vcenter.fault(&Fault::NoRanges(Vec::new())).expect("a switch");
    vcenter.fault(&Fault::SlowHost(None, MIB / 2, 0)).expect("a switch");
    migrate(&stack, "named", &[]);
    wait_for("its namespace is there", SHORT, || {
        stack.get("namespace", "", "named").map(drop).ok_or_else(|| "not yet".to_owned())
    });
    take_name(&stack, folder.path(), "named");
    failed(&stack, &vcenter, "named", "named", &named, SHORT);
    let taken = stack.get("virtualmachine", "named", "named").expect("it is there");
    assert_eq!(taken["spec"]["runStrategy"], "Halted", "the other one was not touched: {taken:#}");
}

#[test]
fn a_cold_migration_whose_host_fails_leaves_the_source_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "stranded";
    let Some(vcenter) = start(&[name]) else { return };
    let stack = Stack::start_env(folder.path(), &[("IMPORTER_RETRY", "1")]);
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    fill(&vcenter, name);
    let before = look(&vcenter, name);
    // slow enough to fail in the middle
    vcenter.fault(&Fault::SlowHost(None, MIB, 0)).expect("a switch");
    migrate(&stack, name, &[]);
    wait_for("bytes flow", SHORT, || {
        let calls = vcenter.calls().map_err(|error| error.to_string())?;
        let bytes = calls.lease_bytes("") + calls.range_bytes("");
        if bytes > MIB / 2 { Ok(()) } else { Err(format!("{bytes} bytes")) }
    });
    assert_eq!(vcenter.machine(name).expect("it is there")["power"], "poweredOff");
    vcenter.fault(&Fault::FailHost(None)).expect("a switch");
    failed(&stack, &vcenter, name, "503 Service Unavailable", &before, LONG);
}

#[test]
fn a_warm_migration_that_fails_leaves_the_source_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["unread", "unfrozen", "renamed"];
    let Some(vcenter) = start(&names) else { return };
    for name in names {
        let tracked = json!({"_typeName": "VirtualMachineConfigSpec", "changeTrackingEnabled": true});
        vcenter.reconfigure(name, &tracked).expect("a machine can be reconfigured");
    }
    let stack = Stack::start_env(folder.path(), &[("PRECOPY_INTERVAL_SECONDS", "2"), ("IMPORTER_RETRY", "1")]);
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    let [unread, unfrozen, renamed] = names.map(|name| look(&vcenter, name));
    let warm = ["--migration-type", "warm"];
    let rounds = |name: &str| {
        stack.wait("plan", NS, name, SHORT, |plan| {
            assert!(!has_condition(plan, "Failed"), "{plan:#}");
            vm(plan, name).and_then(|vm| vm["warm"]["successes"].as_u64()).unwrap_or(0) >= 1
        });
    };

    // the importer cannot read the snapshot that is there already
    no_reader(&vcenter, "ExportSnapshot");
    migrate(&stack, "unread", &warm);
    failed(&stack, &vcenter, "unread", "NotSupported", &unread, SHORT);
    vcenter.fault(&Fault::Clear).expect("a switch");
    vcenter.fault(&Fault::NoRanges(Vec::new())).expect("a switch");

    // the second snapshot cannot be taken, while the first may be there still
    migrate(&stack, "unfrozen", &warm);
    rounds("unfrozen");
    for method in ["CreateSnapshot_Task", "CreateSnapshotEx_Task"] {
        vcenter.fault(&Fault::Fail(method.into(), "SnapshotLocked".into(), -1, 0)).expect("a switch");
    }
    failed(&stack, &vcenter, "unfrozen", "SnapshotLocked", &unfrozen, SHORT);
    vcenter.fault(&Fault::Clear).expect("a switch");

    // shut down at the cutover, copied to its end, and then the name is somebody else's
    migrate(&stack, "renamed", &warm);
    rounds("renamed");
    take_name(&stack, folder.path(), "renamed");
    vcenter.reset_calls().expect("counters");
    stack.mtv(&["cutover", "plan", "renamed", "-n", NS]);
    failed(&stack, &vcenter, "renamed", "renamed", &renamed, SHORT);
    let calls = vcenter.calls().expect("counters");
    assert_eq!((calls.of("ShutdownGuest"), calls.of("PowerOnVM_Task")), (1, 1), "{:?}", calls.methods());
}
