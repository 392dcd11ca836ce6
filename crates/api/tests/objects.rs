//! Objects as people and clusters write them are read whole and written back.

use expect_test::expect;
use forklift_api::plan::{MigrationType, TargetPowerState};
use forklift_api::provider::ProviderType;
use forklift_api::step::StepPhase;
use forklift_api::{Hook, Migration, NetworkMap, Phase, Plan, Provider, Ref, StorageMap};
use jiff::Timestamp;
use serde_json::{Value, json};

fn read<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("cannot read {yaml}: {error}"))
}

const PLAN: &str = "
apiVersion: forklift.konveyor.io/v1beta1
kind: Plan
metadata: {name: shop, namespace: demo}
spec:
  targetNamespace: shop
  provider:
    source: {name: ova, namespace: demo}
    destination: {name: host, namespace: demo}
  map:
    network: {name: net, namespace: demo}
    storage: {name: disk, namespace: demo}
  warm: true
  vms:
  - {id: vm-1, targetName: web, hooks: [{step: PreHook, hook: {name: stop, namespace: demo}}]}
  - {name: db, migrateSharedDisks: false, targetPowerState: 'off', luks: {}}
";

#[test]
fn a_plan_has_upstreams_defaults() {
    let plan: Plan = read(PLAN);
    let spec = &plan.spec;
    assert!(spec.preserve_static_ips && spec.migrate_shared_disks && spec.delete_vm_on_fail_migration);
    assert!(spec.use_compatibility_mode && spec.run_preflight_inspection);
    assert!(!spec.skip_guest_conversion && !spec.xfs_compatibility);
    assert_eq!(spec.migration_type(), MigrationType::Warm);
    assert!(!spec.vms[1].has_luks());
    assert_eq!(spec.target_power_state(&spec.vms[0]), TargetPowerState::Auto);
    assert_eq!(spec.target_power_state(&spec.vms[1]), TargetPowerState::Off);
    assert!(spec.migrates_shared_disks(&spec.vms[0]) && !spec.migrates_shared_disks(&spec.vms[1]));
}

#[test]
fn what_differs_from_a_default_is_written() {
    let mut plan: Plan = read(PLAN);
    plan.spec.preserve_static_ips = false;
    let written = serde_json::to_value(&plan).expect("serialises");
    assert_eq!(written["spec"]["preserveStaticIPs"], Value::Bool(false));
    assert_eq!(
        written["spec"]["vms"][0],
        json!({ "id": "vm-1", "hooks": [{ "step": "PreHook", "hook": { "name": "stop", "namespace": "demo" } }],
                "targetName": "web" })
    );
}

#[test]
fn vms_are_found_by_id_then_by_name() {
    let plan: Plan = read(PLAN);
    let name = |reference: &Ref| plan.spec.find_vm(reference).map(|vm| vm.target_name.as_str());
    assert_eq!(name(&Ref::by_id("vm-1")), Some("web"));
    assert_eq!(name(&Ref { id: "vm-9".to_owned(), ..Ref::by_name("db") }), Some(""));
    // an entry with an id is not found by its name
    assert_eq!(name(&Ref::by_name("web")), None);
    assert_eq!(name(&Ref::default()), None);
}

#[test]
fn the_status_of_a_running_plan_is_read_and_written_back() {
    let stored = json!({
        "started": "2026-08-01T10:00:00Z",
        "history": [{
            "conditions": [{ "type": "Executing", "status": "True", "category": "Advisory",
                "message": "The plan is EXECUTING.", "lastTransitionTime": "2026-08-01T10:00:00Z", "durable": true }],
            "provider": {
                "source": { "namespace": "demo", "name": "ova", "uid": "1", "generation": 2 },
                "destination": { "namespace": "demo", "name": "host", "uid": "2", "generation": 1 }
            },
            "plan": { "namespace": "demo", "name": "shop", "uid": "3", "generation": 3 },
            "map": {
                "network": { "namespace": "demo", "name": "net", "uid": "4", "generation": 1 },
                "storage": { "namespace": "demo", "name": "disk", "uid": "5", "generation": 1 }
            },
            "migration": { "namespace": "demo", "name": "m1", "uid": "6", "generation": 1 }
        }],
        "vms": [{
            "started": "2026-08-01T10:00:00Z",
            "id": "vm-42", "name": "web",
            "pipeline": [{
                "started": "2026-08-01T10:00:00Z",
                "name": "DiskTransfer", "description": "Transfer disks.", "phase": "Running",
                "progress": { "total": 16384, "completed": 6144 },
                "annotations": { "unit": "MB" },
                "tasks": [{ "name": "[ds1] web/web.vmdk", "phase": "Running",
                    "progress": { "total": 16384, "completed": 6144 }, "annotations": { "unit": "MB" } }]
            }],
            "phase": "CopyDisks",
            "error": { "phase": "DiskTransfer", "reasons": ["no space"] },
            "warm": { "successes": 3, "failures": 0, "consecutiveFailures": 0,
                "precopies": [{ "start": "2026-08-01T10:00:00Z", "snapshot": "snapshot-101", "createTaskId": "task-9",
                    "deltas": [{ "disk": "[ds1] web/web.vmdk", "deltaId": "52 de/4" }] }] },
            "restorePowerState": "On",
            "detectedBootDisk": 0,
            "waitingOn": { "code": "Copying", "message": "disk 1 of 1", "since": "2026-08-01T10:00:00Z" },
            "somethingNew": { "a": [1, 2] }
        }]
    });
    let mut whole = serde_json::to_value(read::<Plan>(PLAN)).expect("serialises");
    whole["status"] = json!({ "observedGeneration": 3, "migration": stored, "laterField": true });
    let plan: Plan = serde_json::from_value(whole.clone()).expect("a plan");
    assert_eq!(serde_json::to_value(&plan).expect("serialises")["status"], whole["status"]);

    let record = &plan.status.as_ref().expect("a status").migration;
    assert_eq!(record.active_snapshot().map(|snapshot| snapshot.migration.name.as_str()), Some("m1"));
    let vm = record.find_vm(&Ref::by_id("vm-42")).expect("the VM");
    assert_eq!(vm.phase, Phase::CopyDisks);
    assert_eq!(vm.find_step("DiskTransfer").and_then(|step| step.task.phase), Some(StepPhase::Running));
}

#[test]
fn a_phase_of_the_future_does_not_break_the_plan() {
    assert_eq!(serde_json::from_value::<Phase>(json!("Teleport")).expect("a phase"), Phase::Unknown);
    assert_eq!("CreateVM".parse::<Phase>().ok(), Some(Phase::CreateVm));
    let names: Vec<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();
    assert!(names.iter().all(|name| name.parse::<Phase>().map(Phase::as_str).ok().as_ref() == Some(name)));
}

#[test]
fn a_step_says_what_its_tasks_say() {
    let now = Timestamp::from_second(100).expect("a time");
    let mut step = forklift_api::plan::Step::default();
    step.tasks = vec![forklift_api::plan::Task::new("disk 0", "", 10), forklift_api::plan::Task::new("disk 1", "", 20)];
    step.tasks[0].progress.completed = 10;
    step.tasks[0].timed.mark_completed(now);
    step.reflect_tasks(now);
    assert!(step.task.timed.is_running());
    assert_eq!(step.task.progress.completed, 10);
    step.tasks[1].add_error("no space");
    step.tasks[1].add_error("no space");
    step.tasks[1].timed.mark_completed(now);
    step.reflect_tasks(now);
    assert!(step.task.timed.is_completed());
    assert_eq!(step.task.error.expect("an error").reasons, ["no space"]);
}

#[test]
fn a_provider_of_unknown_type_can_be_read() {
    let provider: Provider = read(
        "{apiVersion: forklift.konveyor.io/v1beta1, kind: Provider, metadata: {name: p}, spec: {type: vmware, secret: {}}}",
    );
    let error = provider.provider_type().expect_err("no such type");
    expect![[r#"unknown provider type "vmware": expected one of openshift, vsphere, ovirt, openstack, ova, ec2, hyperv, nutanix"#]]
        .assert_eq(&error.to_string());
    let host: Provider = read(
        "{apiVersion: forklift.konveyor.io/v1beta1, kind: Provider, metadata: {name: host, namespace: a}, spec: {type: openshift, secret: {}}}",
    );
    assert!(host.is(ProviderType::OpenShift) && host.is_host());
    assert!(host.is_restricted_host("b") && !host.is_restricted_host("a"));
}

#[test]
fn maps_are_looked_up() {
    let network: NetworkMap = read(
        "
apiVersion: forklift.konveyor.io/v1beta1
kind: NetworkMap
metadata: {name: net}
spec:
  provider: {source: {name: a}, destination: {name: b}}
  map:
  - {source: {id: n1}, destination: {type: pod}}
  - {source: {id: n1, vlan: '7'}, destination: {type: multus, namespace: demo, name: blue}}
  - {source: {name: ns/red}, destination: {type: ignored}}
  - {source: {type: pod}, destination: {type: pod}}
",
    );
    assert_eq!(network.spec.by_id("n1").count(), 2);
    assert_eq!(network.spec.by_namespaced_name("ns", "red").count(), 1);
    assert_eq!(network.spec.by_type("pod").count(), 1);
    let storage: StorageMap = read(
        "
apiVersion: forklift.konveyor.io/v1beta1
kind: StorageMap
metadata: {name: disk}
spec:
  provider: {source: {name: a}, destination: {name: b}}
  map:
  - source: {id: s1, name: ds1}
    destination: {storageClass: fast, volumeMode: Block, accessMode: ReadWriteMany}
    offloadPlugin: {vsphereXcopyConfig: {secretRef: array, storageVendorProduct: pureFlashArray}}
",
    );
    assert!(storage.spec.uses_offload());
    assert_eq!(storage.spec.by_name("ds1"), storage.spec.by_id("s1"));
    let wrong: Result<StorageMap, _> = serde_saphyr::from_str(
        "{metadata: {}, spec: {provider: {source: {}, destination: {}}, map: [{source: {}, destination: {storageClass: x, volumeMode: file}}]}}",
    );
    assert!(wrong.is_err());
}

#[test]
fn a_cutover_of_one_vm_beats_that_of_all() {
    let migration: Migration = read(
        "
apiVersion: forklift.konveyor.io/v1beta1
kind: Migration
metadata: {name: m}
spec:
  plan: {name: shop, namespace: demo}
  cancel: [{name: not-resolved}, {id: vm-3}]
  cutover: 2026-08-02T00:00:00Z
  vmCutover: [{id: vm-1, cutover: 2026-08-01T00:00:00Z}]
",
    );
    let cutover = |id: &str| migration.spec.cutover_for(&Ref::by_id(id)).map(|time| time.0.to_string());
    assert_eq!(cutover("vm-1").as_deref(), Some("2026-08-01T00:00:00Z"));
    assert_eq!(cutover("vm-2").as_deref(), Some("2026-08-02T00:00:00Z"));
    assert!(migration.spec.cancels(&Ref::by_id("vm-3")));
    assert!(!migration.spec.cancels(&Ref::by_name("not-resolved")));
}

#[test]
fn a_hook_runs_one_way() {
    let hook = |spec: &str| -> Hook {
        read(&format!("{{apiVersion: forklift.konveyor.io/v1beta1, kind: Hook, metadata: {{name: h}}, spec: {spec}}}"))
    };
    assert!(hook("{image: runner}").spec.is_runnable());
    assert!(hook("{image: runner, playbook: LS0t}").spec.is_runnable());
    assert!(!hook("{playbook: LS0t}").spec.is_runnable());
    assert!(!hook("{image: runner, aap: {jobTemplateId: 7}}").spec.is_runnable());
    assert!(!hook("{aap: {jobTemplateId: 0}}").spec.is_runnable());
    let job = hook("{aap: {jobTemplateId: 7, url: 'https://aap'}}").spec;
    assert!(job.is_runnable() && !job.knows_platform("", "") && job.knows_platform("https://aap", "token"));
}
