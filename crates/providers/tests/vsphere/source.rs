//! The source: power, snapshots, disks.

use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_api::Provider;
use forklift_api::worker::ImportSource;
use forklift_core::machine::{PowerState, VmIdentity};
use forklift_core::source::{Snapshots, Source, SourceError};
use forklift_inventory::ProviderEntry;
use forklift_providers::vsphere::session::Sessions;
use forklift_providers::vsphere::source::Vms;
use forklift_providers::vsphere::{SPEC, model};
use forklift_providers::{Endpoint, Held};
use forklift_testkit::peers::vcenter::{Fault, Vcenter};
use serde_json::json;

use crate::{secret, start};

const PREFIX: &str = "forklift-migration-precopy-1234abcd-";

pub(crate) fn provider(vcenter: &Vcenter, settings: &[(&str, &str)]) -> Endpoint {
    let settings: BTreeMap<_, _> = settings.iter().copied().collect();
    let provider: Provider = serde_json::from_value(json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider",
        "metadata": {"name": "vc", "namespace": "ns", "uid": "u"},
        "spec": {"type": "vsphere", "url": vcenter.url(), "secret": {"name": "s", "namespace": "ns"}, "settings": settings},
        "status": {"fingerprint": vcenter.thumbprint()}
    }))
    .expect("a provider");
    Endpoint { provider: Arc::new(provider), secret: secret(vcenter), server: None, hosts: Default::default() }
}

fn source_with(endpoint: &Endpoint, sessions: &Arc<Sessions>) -> Vms {
    let entry = ProviderEntry::collected(&SPEC, json!({}));
    Vms::new(Arc::new(entry), endpoint, sessions.clone())
}

fn source(vcenter: &Vcenter, settings: &[(&str, &str)]) -> Vms {
    source_with(&provider(vcenter, settings), &Arc::default())
}

async fn identity(source: &Vms, vcenter: &Vcenter, name: &str) -> VmIdentity {
    let id = vcenter.machine(name).expect("the VM")["id"].as_str().expect("an id").to_owned();
    source.power_state(&id).await.expect("its state").0
}

async fn power(source: &Vms, vm: &VmIdentity) -> PowerState {
    source.power_state(&vm.id).await.expect("its state").1
}

fn other(vm: &VmIdentity) -> VmIdentity {
    VmIdentity { uuid: "502d4a5e-0000-0000-0000-000000000000".into(), ..vm.clone() }
}

#[tokio::test]
async fn a_guest_with_tools_is_shut_down_and_started() {
    let Some(vcenter) = start(&["web"]) else { return };
    let source = source(&vcenter, &[]);
    let vm = identity(&source, &vcenter, "web").await;
    vcenter.guest("web", true, false, false).expect("tools");
    assert_eq!(power(&source, &vm).await, PowerState::On);
    source.power_off(&vm).await.expect("asked");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while power(&source, &vm).await != PowerState::Off {
        assert!(std::time::Instant::now() < deadline, "it does not go down");
    }
    source.power_off(&vm).await.expect("off already");
    let calls = vcenter.calls().expect("counters");
    assert_eq!((calls.of("ShutdownGuest"), calls.of("PowerOffVM_Task")), (1, 0));
    source.power_on(&vm).await.expect("started");
    assert_eq!(power(&source, &vm).await, PowerState::On);
    source.power_on(&vm).await.expect("on already");
    assert_eq!(vcenter.calls().expect("counters").of("PowerOnVM_Task"), 1);
}

#[tokio::test]
async fn without_tools_nothing_is_cut_unless_the_provider_says_so() {
    let Some(vcenter) = start(&["web"]) else { return };
    vcenter.guest("web", false, false, false).expect("no tools");
    let careful = source(&vcenter, &[]);
    let vm = identity(&careful, &vcenter, "web").await;
    let error = careful.power_off(&vm).await.expect_err("no tools").to_string();
    assert!(error.contains("VMware Tools do not run") && error.contains("hardPowerOffAfter"), "{error}");
    assert_eq!(power(&careful, &vm).await, PowerState::On);
    let wrong = source(&vcenter, &[("hardPowerOffAfter", "soon")]);
    assert!(matches!(wrong.power_off(&vm).await, Err(SourceError::Other(_))));
    let told = source(&vcenter, &[("hardPowerOffAfter", "10m")]);
    told.power_off(&vm).await.expect("cut");
    assert_eq!(power(&told, &vm).await, PowerState::Off);
}

#[tokio::test]
async fn a_guest_that_hangs_is_asked_once_and_cut_after_its_time() {
    let Some(vcenter) = start(&["web"]) else { return };
    vcenter.guest("web", true, true, false).expect("hangs");
    let sessions = Arc::new(Sessions::default());
    let patient = source_with(&provider(&vcenter, &[]), &sessions);
    let vm = identity(&patient, &vcenter, "web").await;
    for _ in 0..5 {
        patient.power_off(&vm).await.expect("asked");
    }
    assert_eq!(vcenter.calls().expect("counters").of("ShutdownGuest"), 1);
    assert_eq!(power(&patient, &vm).await, PowerState::On);
    let strict = source_with(&provider(&vcenter, &[("hardPowerOffAfter", "0s")]), &sessions);
    strict.power_off(&vm).await.expect("cut");
    assert_eq!(power(&strict, &vm).await, PowerState::Off);
}

#[tokio::test]
async fn nothing_is_done_to_another_vm_than_was_meant() {
    let Some(vcenter) = start(&["web"]) else { return };
    let source = source(&vcenter, &[("hardPowerOffAfter", "0s")]);
    let vm = identity(&source, &vcenter, "web").await;
    source.ensure(&vm, &format!("{PREFIX}0")).await.expect("a snapshot");
    vcenter.reset_calls().expect("reset");
    for wrong in [other(&vm), VmIdentity { uuid: String::new(), ..vm.clone() }] {
        for refused in [
            source.power_off(&wrong).await,
            source.power_on(&wrong).await,
            source.ensure(&wrong, &format!("{PREFIX}1")).await,
            source.remove(&wrong, &format!("{PREFIX}0")).await,
            source.list(&wrong, PREFIX).await.map(drop),
        ] {
            let error = refused.expect_err("another VM");
            assert!(
                matches!(error, SourceError::Denied(_)) && error.to_string().contains("nothing was done"),
                "{error}"
            );
        }
    }
    let gone = VmIdentity { id: "vm-99999".into(), ..vm.clone() };
    assert!(matches!(source.power_off(&gone).await, Err(SourceError::NotFound(_))));
    let calls = vcenter.calls().expect("counters");
    for method in [
        "ShutdownGuest",
        "PowerOffVM_Task",
        "PowerOnVM_Task",
        "CreateSnapshot_Task",
        "RemoveSnapshot_Task",
        "ReconfigVM_Task",
    ] {
        assert_eq!(calls.of(method), 0, "{method}");
    }
    assert_eq!(vcenter.snapshots("web").expect("snapshots").len(), 1);
}

#[tokio::test]
async fn snapshots_come_with_the_identities_of_their_changes() {
    let Some(vcenter) = start(&["web"]) else { return };
    let source = source(&vcenter, &[]);
    let vm = identity(&source, &vcenter, "web").await;
    vcenter.snapshot("web", "before the update").expect("somebody's snapshot");
    let (first, second) = (format!("{PREFIX}0"), format!("{PREFIX}1"));
    source.ensure(&vm, &first).await.expect("taken");
    source.ensure(&vm, &first).await.expect("there already");
    let machine = vcenter.machine("web").expect("the VM");
    assert_eq!(machine["tracking"], json!(true), "change tracking is switched on");
    vcenter.write("web", 0, 0, b"new").expect("written");
    source.remove(&vm, &first).await.expect("removed");
    source.remove(&vm, &first).await.expect("gone already");
    source.ensure(&vm, &second).await.expect("taken");
    let facts = source.list(&vm, PREFIX).await.expect("snapshots");
    let [fact] = &facts[..] else { panic!("one of ours: {facts:?}") };
    assert_eq!((fact.name.as_str(), fact.ready), (second.as_str(), true));
    assert_eq!(fact.deltas.len(), 1);
    assert_eq!(json!(fact.deltas[0].disk), machine["disks"][0]["base"]);
    assert!(!fact.deltas[0].delta_id.is_empty());
    assert_eq!(source.list(&vm, PREFIX).await.expect("the same"), facts);
    // what is not ours stays
    let theirs = source.remove(&vm, "before the update").await;
    assert!(matches!(theirs, Err(SourceError::Denied(_))));
    source.remove(&vm, &second).await.expect("removed");
    assert_eq!(vcenter.snapshots("web").expect("snapshots"), ["before the update"]);
    assert_eq!(vcenter.calls().expect("counters").of("CreateSnapshot_Task"), 2);
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_snapshot() {
    let Some(vcenter) = start(&["web"]) else { return };
    let vm = identity(&source(&vcenter, &[]), &vcenter, "web").await;
    let name = format!("{PREFIX}0");
    vcenter
        .fault(&Fault::TaskDelay(vec![("createSnapshot".into(), 500), ("removeSnapshot".into(), 500)]))
        .expect("slow");
    for method in ["CreateSnapshot_Task", "RemoveSnapshot_Task"] {
        vcenter.fault(&Fault::LoseAnswer(method.into())).expect("a rule");
        // each time as after a crash: nothing is remembered
        let act = |source: Vms| {
            let (vm, name) = (vm.clone(), name.clone());
            async move {
                match method {
                    "CreateSnapshot_Task" => source.ensure(&vm, &name).await,
                    _ => source.remove(&vm, &name).await,
                }
            }
        };
        let lost = act(source(&vcenter, &[])).await.expect_err("no answer");
        assert!(matches!(lost, SourceError::Unreachable(_)), "{lost}");
        act(source(&vcenter, &[])).await.expect("it runs already");
        let fresh = source(&vcenter, &[]);
        let wanted = usize::from(method == "CreateSnapshot_Task");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while fresh.list(&vm, PREFIX).await.expect("snapshots").iter().filter(|fact| fact.ready).count() != wanted {
            assert!(std::time::Instant::now() < deadline, "it is not done");
        }
        act(source(&vcenter, &[])).await.expect("done already");
        assert_eq!(vcenter.calls().expect("counters").of(method), 1, "{method}");
    }
    assert_eq!(vcenter.snapshots("web").expect("snapshots"), [""; 0]);
}

#[tokio::test]
async fn a_guest_that_cannot_be_quiet_is_snapshot_all_the_same() {
    let Some(vcenter) = start(&["web"]) else { return };
    vcenter.guest("web", true, false, false).expect("tools");
    let source = source(&vcenter, &[]);
    let vm = identity(&source, &vcenter, "web").await;
    vcenter.fault(&Fault::FailTask("CreateSnapshot_Task".into(), "ApplicationQuiesceFault".into())).expect("a rule");
    source.ensure(&vm, &format!("{PREFIX}0")).await.expect("taken");
    assert_eq!(vcenter.snapshots("web").expect("snapshots"), [format!("{PREFIX}0")]);
    assert_eq!(vcenter.calls().expect("counters").of("CreateSnapshot_Task"), 2);
    // other faults are told
    vcenter.fault(&Fault::FailTask("CreateSnapshot_Task".into(), "TooManySnapshotLevels".into())).expect("a rule");
    let error = source.ensure(&vm, &format!("{PREFIX}1")).await.expect_err("failed").to_string();
    assert!(error.contains("at most 32 levels"), "{error}");
    vcenter.fault(&Fault::FailNext("CreateSnapshot_Task".into(), "TaskInProgress".into())).expect("a rule");
    assert!(matches!(source.ensure(&vm, &format!("{PREFIX}1")).await, Err(SourceError::Conflict(_))));
}

#[tokio::test]
async fn what_a_removal_leaves_behind_is_consolidated() {
    let Some(vcenter) = start(&["web"]) else { return };
    vcenter.guest("web", true, false, true).expect("leaves a delta");
    let source = source(&vcenter, &[]);
    let vm = identity(&source, &vcenter, "web").await;
    source.ensure(&vm, &format!("{PREFIX}0")).await.expect("taken");
    source.remove(&vm, &format!("{PREFIX}0")).await.expect("removed");
    assert_eq!(vcenter.calls().expect("counters").of("ConsolidateVMDisks_Task"), 1);
}

/// vSphere takes at most 32 levels of snapshots, and backup products warn from 28 on: a migration of weeks has one.
#[tokio::test]
async fn any_number_of_rounds_has_one_snapshot_at_a_time() {
    let Some(vcenter) = start(&["web"]) else { return };
    let source = source(&vcenter, &[]);
    let vm = identity(&source, &vcenter, "web").await;
    let mut ids = std::collections::BTreeSet::new();
    for round in 0..35u8 {
        let name = format!("{PREFIX}{round}");
        source.ensure(&vm, &name).await.expect("taken");
        let facts = source.list(&vm, PREFIX).await.expect("snapshots");
        assert_eq!(facts.iter().map(|fact| fact.name.as_str()).collect::<Vec<_>>(), [name.as_str()]);
        assert!(ids.insert(facts[0].deltas[0].delta_id.clone()), "round {round} has a change ID of its own");
        assert_eq!(vcenter.machine("web").expect("the VM")["disks"][0]["layers"], 2, "round {round}");
        vcenter.write("web", 0, u64::from(round) * 4096, &[round; 100]).expect("written");
        source.remove(&vm, &name).await.expect("removed");
    }
    assert_eq!(vcenter.machine("web").expect("the VM")["disks"][0]["layers"], 1);
}

#[tokio::test]
async fn one_session_serves_all_until_the_credentials_change() {
    let Some(vcenter) = start(&["web"]) else { return };
    let sessions = Arc::new(Sessions::default());
    let first = source_with(&provider(&vcenter, &[]), &sessions);
    let vm = identity(&first, &vcenter, "web").await;
    identity(&source_with(&provider(&vcenter, &[("vddkInitImage", "i")]), &sessions), &vcenter, "web").await;
    assert_eq!(vcenter.calls().expect("counters").logins(), 1);
    vcenter.fault(&Fault::Password("new".into())).expect("changed");
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    for _ in 0..3 {
        let refused = first.power_state(&vm.id).await.expect_err("the old password");
        assert!(matches!(refused, SourceError::Denied(_)), "{refused}");
    }
    assert_eq!(vcenter.calls().expect("counters").invalid_logins(), 1);
    let mut rotated = provider(&vcenter, &[]);
    rotated.secret.insert("password".into(), b"new".to_vec());
    let second = source_with(&rotated, &sessions);
    assert_eq!(power(&second, &vm).await, PowerState::On);
    sessions.release().await;
    assert_eq!(vcenter.calls().expect("counters").sessions(), 0);
}

#[tokio::test]
async fn disks_are_told_with_their_device_and_how_they_may_be_read() {
    let Some(vcenter) = start(&["web"]) else { return };
    let entry = Arc::new(ProviderEntry::collected(&SPEC, json!({})));
    let inventory = forklift_inventory::Inventory::new(None);
    let writer = inventory.writer(&entry);
    let file = "[ds] web/web-000003.vmdk".into();
    let disk = model::Disk { key: 2000, file, capacity: 16 << 20, serial: "6000".into(), ..model::Disk::default() };
    let vm = model::Vm { instance_uuid: "i".into(), disks: vec![disk].into(), ..model::Vm::default() };
    writer.upsert("vms", forklift_inventory::Draft::new("vm-1", "web", "", vm));
    writer.loaded();
    let endpoint = provider(&vcenter, &[("transferMethod", "nfc"), ("vddkInitImage", "image")]);
    let source = Vms::new(entry, &endpoint, Arc::default());
    let machine = source.machine("vm-1").await.expect("the VM");
    let disks = source.disk_sources(&machine).await.expect("its disks");
    let [disk] = &disks[..] else { panic!("one disk") };
    let ImportSource::Vsphere(from) = &disk.source else { panic!("vSphere") };
    assert_eq!((from.vm.as_str(), from.key, from.file.as_str()), ("vm-1", 2000, "[ds] web/web.vmdk"));
    assert_eq!((from.url.as_str(), from.instance_uuid.as_str()), (vcenter.url(), "i"));
    assert_eq!((from.method.as_deref(), from.vddk.is_some()), (Some("nfc"), true));
    assert_eq!(from.thumbprint.as_deref(), Some(vcenter.thumbprint()));
    assert_eq!((disk.secret.as_deref(), disk.virtual_size), (Some("s"), Some(16 << 20)));
    assert!(matches!(source.machine("vm-2").await, Err(SourceError::NotFound(_))));
}
