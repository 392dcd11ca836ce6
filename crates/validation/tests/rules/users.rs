//! Rules that users bring, in the form of upstream's guide: both dialects load, fire, and answer as OPA does.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use forklift_testkit::peers::opa::Opa;
use forklift_validation::Validator;
use serde_json::{Value, json};

use crate::bundled;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/users").join(name)
}

/// The VM of the guide's example, cut down to what rules look at.
fn vsphere_vm() -> Value {
    json!({
        "selfLink": "providers/vsphere/c872d364/workloads/vm-431", "id": "vm-431", "name": "iscsi-target",
        "parent": {"kind": "Folder", "id": "group-v22"}, "revision": 1, "concerns": [], "policyVersion": 5,
        "networks": [{"kind": "Network", "id": "network-31"}, {"kind": "Network", "id": "network-33"}],
        "disks": [
            {"key": 2000, "file": "[iSCSI_Datastore] iscsi-target/iscsi-target-000001.vmdk", "capacity": 17_179_869_184_u64,
             "datastore": {"kind": "Datastore", "id": "datastore-63"}, "shared": false, "rdm": false},
            {"key": 2001, "file": "[iSCSI_Datastore] iscsi-target/iscsi-target_1-000001.vmdk", "capacity": 10_737_418_240_u64,
             "datastore": {"kind": "Datastore", "id": "datastore-63"}, "shared": false, "rdm": false},
        ],
        "snapshot": {"kind": "VirtualMachineSnapshot", "id": "snapshot-3034"}, "firmware": "bios",
        "changeTrackingEnabled": false, "cpuAffinity": [0, 2], "cpuHotAddEnabled": true, "memoryMB": 2048,
        "guestName": "Red Hat Enterprise Linux 7 (64-bit)", "numaNodeAffinity": ["0", "1"],
        "devices": [{"kind": "RealUSBController"}],
        "host": {"id": "host-29", "name": "esxi", "cluster": {"id": "domain-c26", "drsEnabled": true, "hosts": []}},
    })
}

fn ovirt_vm() -> Value {
    json!({"name": "db", "status": "up", "memory": 137_438_953_472_u64, "haEnabled": true, "osType": "rhel_9x64"})
}

/// Compares the lines `category id: label` of all concerns, then all of it with OPA's answer.
fn check(rules: &str, opa_flags: &[&str], package: &str, vm: &Value, expected: Expect) {
    let validator = Validator::with_user_rules(&folder(rules));
    assert_eq!(validator.rule_errors(), []);
    let concerns = validator.concerns(package, vm).expect("the rules hold");
    let lines: Vec<String> = concerns.iter().map(|c| format!("{} {}: {}\n", c.category, c.id, c.label)).collect();
    expected.assert_eq(&lines.concat());

    let Some(opa) = Opa::program() else { return };
    // OPA takes one dialect for all files: users' rules are evaluated there with the bundled ones in the present one
    let query = format!("data.io.konveyor.forklift.{package}.concerns");
    let input = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(input.path(), vm.to_string()).expect("writable");
    let mut command = std::process::Command::new(opa);
    command.args(["eval", "--format", "values"]).args(opa_flags).arg("--input").arg(input.path());
    if opa_flags.is_empty() {
        command.arg("--data").arg(bundled()).args(["--ignore", "*_test.rego"]);
    }
    let output = command.arg("--data").arg(folder(rules)).arg(query).output().expect("opa runs");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    let mut theirs: Vec<String> = answer[0].as_array().into_iter().flatten().map(Value::to_string).collect();
    let mut ours: Vec<String> = all(&validator, package, vm).iter().map(Value::to_string).collect();
    if !opa_flags.is_empty() {
        // without the bundled rules in OPA only the users' own can be compared
        let alone: Vec<String> = all(&Validator::new(), package, vm).iter().map(Value::to_string).collect();
        ours.retain(|concern| !alone.contains(concern));
    }
    theirs.sort();
    ours.sort();
    assert!(!ours.is_empty(), "no rule of {rules} has fired");
    assert_eq!(ours, theirs);
}

fn all(validator: &Validator, package: &str, vm: &Value) -> Vec<Value> {
    let path = format!("io.konveyor.forklift.{package}.concerns");
    let concerns = validator.query(&path, Some(vm)).expect("the rules hold").expect("the set is defined");
    concerns.as_array().expect("a set is a list in JSON").clone()
}

#[test]
fn rules_in_the_present_dialect_fire() {
    check(
        "current",
        &[],
        "vmware",
        &vsphere_vm(),
        expect![[r#"
        Information : Multiple disks detected
        Warning site.disk.slow: A large disk is on a slow datastore: iscsi-target/iscsi-target-000001.vmdk
        Warning site.disk.slow: A medium disk is on a slow datastore: iscsi-target/iscsi-target_1-000001.vmdk
        Information site.drs: network-31, network-33
        Warning vmware.changed_block_tracking.disabled: Changed Block Tracking (CBT) not enabled
        Warning vmware.cpu_affinity.detected: CPU affinity detected
        Warning vmware.cpu_memory.hotplug.enabled: CPU/Memory hotplug detected
        Information vmware.drs.enabled: VM running in a DRS-enabled cluster
        Warning vmware.numa_affinity.detected: NUMA node affinity detected
        Information vmware.snapshot.detected: VM snapshot detected
    "#]],
    );
    check(
        "current",
        &[],
        "ovirt",
        &ovirt_vm(),
        expect![[r#"
        Warning ovirt.ha.enabled: VM configured as HA
        Warning site.big: 128 GiB of memory
    "#]],
    );
}

#[test]
fn rules_in_the_older_dialect_fire() {
    check(
        "older",
        &["--v0-compatible"],
        "vmware",
        &vsphere_vm(),
        expect![[r#"
        Information : Multiple disks detected
        Information : VM runs in a DRS cluster of ours
        Critical site.pinned: Pinned, disks are {"large", "small"}
        Warning vmware.changed_block_tracking.disabled: Changed Block Tracking (CBT) not enabled
        Warning vmware.cpu_affinity.detected: CPU affinity detected
        Warning vmware.cpu_memory.hotplug.enabled: CPU/Memory hotplug detected
        Information vmware.drs.enabled: VM running in a DRS-enabled cluster
        Warning vmware.numa_affinity.detected: NUMA node affinity detected
        Information vmware.snapshot.detected: VM snapshot detected
    "#]],
    );
    check(
        "older",
        &["--v0-compatible"],
        "ovirt",
        &ovirt_vm(),
        expect![[r#"
        Warning : HA up
        Warning ovirt.ha.enabled: VM configured as HA
    "#]],
    );
}

#[test]
fn broken_files_are_named_and_the_others_fire() {
    let validator = Validator::with_user_rules(&folder("broken"));
    let errors: String = validator.rule_errors().iter().map(|error| format!("{error}\n")).collect();
    expect![[r#"
        another_default.rego:6: `valid_input` has another default value already
        another_package.rego:1: the package is not one of io.konveyor.forklift.<provider>
        syntax.rego:8: expected `}`, found the end of the file
        unknown_name.rego:6: unknown function of_nobody
    "#]]
    .assert_eq(&errors);
    let concerns = validator.concerns("vmware", &vsphere_vm()).expect("the rules hold");
    assert!(concerns.iter().any(|concern| concern.label == "Multiple disks detected"), "{concerns:#?}");
    assert!(concerns.iter().any(|concern| concern.id == "vmware.drs.enabled"), "{concerns:#?}");
}
