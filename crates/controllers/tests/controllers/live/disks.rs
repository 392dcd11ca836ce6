//! Disks and snapshots: what a copy could not read whole is said before it begins.
use forklift_api::plan::MigrationType;
use forklift_api::{Plan, annotations, labels};
use forklift_core::machine::PowerState;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{Live, items, named, says};
use crate::cluster::{TARGET, has};
use forklift_api::plan::PlanSpec;
use forklift_testkit::peers::vcenter::Options;

fn warm(spec: &mut PlanSpec) {
    spec.type_ = Some(MigrationType::Warm);
}

/// Changed blocks are tracked. (The simulator tells nobody when it is asked to by a reconfiguration.)
async fn track(live: &Live, machines: &[&str]) {
    for name in machines {
        let tracked = json!({"config.changeTrackingEnabled": true});
        live.vcenter.set("VirtualMachine", name, &tracked).expect("a change");
        live.cluster.eventually(name, || async { live.machine(name).await.traits.change_tracking }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_snapshots_leave_out() {
    let Some(live) = Live::ready(named(&["rdm", "apart", "locked", "fine"])).await else { return };
    live.map(&["fine"]).await;
    track(&live, &["rdm", "apart", "locked", "fine"]).await;
    live.vcenter.set_disk("rdm", 0, "rdm", "physicalMode").expect("a change");
    live.vcenter.set_disk("apart", 0, "mode", "independent_persistent").expect("a change");
    let key = json!({"config.keyId": {"_typeName": "CryptoKeyId", "keyId": "k-1"}});
    live.vcenter.set("VirtualMachine", "locked", &key).expect("a change");
    live.count_anew();

    live.plan("rdm", &["rdm"], |_| {}).await;
    let found = live.raises::<Plan>("rdm", "RDMDiskWarning", "NotSupported").await;
    assert_eq!(found["category"], "Warn");
    live.accepts("rdm", "VMStorageNotSupported").await;
    live.plan("rdm-lun", &["rdm"], |spec| spec.rdm_as_lun = true).await;
    live.accepts("rdm-lun", "RDMDiskWarning").await;
    live.plan("rdm-warm", &["rdm"], warm).await;
    let found = live.raises::<Plan>("rdm-warm", "RDMDiskWarning", "NotSupported").await;
    assert_eq!(found["category"], "Critical");
    live.refuses("rdm-warm").await;

    live.plan("apart", &["apart"], |_| {}).await;
    let found = live.raises::<Plan>("apart", "IndependentDiskWarning", "NotSupported").await;
    assert_eq!(found["category"], "Warn");
    live.plan("apart-warm", &["apart"], warm).await;
    let found = live.raises::<Plan>("apart-warm", "IndependentDiskWarning", "NotSupported").await;
    assert_eq!(found["category"], "Critical");
    live.refuses("apart-warm").await;

    live.plan("locked", &["locked"], |_| {}).await;
    let found = live.raises::<Plan>("locked", "VMStorageNotSupported", "NotValid").await;
    assert!(items(&found)[0].contains("only VDDK can read it"), "{found}");
    live.refuses("locked").await;
    live.plan("fine", &["fine"], warm).await;
    live.accepts("fine", "RDMDiskWarning").await;
    live.untouched();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_before_a_warm_migration() {
    let Some(live) = Live::ready(named(&["bare", "backup", "full", "lost", "merge"])).await else { return };
    live.map(&["bare"]).await;
    track(&live, &["backup", "full", "lost", "merge"]).await;
    live.plan("bare", &["bare"], warm).await;
    live.raises::<Plan>("bare", "VMMissingChangedBlockTracking", "MissingChangedBlockTracking").await;
    live.refuses("bare").await;
    track(&live, &["bare"]).await;
    live.accepts("bare", "VMMissingChangedBlockTracking").await;

    live.vcenter.snapshot("backup", "nightly").expect("a snapshot");
    live.cluster.eventually("the snapshot", || async { live.machine("backup").await.traits.snapshots == 1 }).await;
    live.plan("backup", &["backup"], warm).await;
    let found = live.raises::<Plan>("backup", "VMHasSnapshots", "NotValid").await;
    assert_eq!((found["category"].as_str(), items(&found)[0].ends_with("1 snapshot")), (Some("Warn"), true), "{found}");
    live.plan("backup-cold", &["backup"], |_| {}).await;
    live.accepts("backup-cold", "VMHasSnapshots").await;
    for n in 0..31 {
        live.vcenter.snapshot("full", &format!("day-{n}")).expect("a snapshot");
    }
    live.cluster.eventually("the snapshots", || async { live.machine("full").await.traits.snapshots == 31 }).await;
    live.count_anew();
    live.plan("full", &["full"], warm).await;
    let found = live.raises::<Plan>("full", "VMHasSnapshots", "NotValid").await;
    assert_eq!(found["category"], "Critical", "{found}");
    live.refuses("full").await;

    live.vcenter.set("VirtualMachine", "merge", &json!({"runtime.consolidationNeeded": true})).expect("a change");
    live.plan("merge", &["merge"], warm).await;
    live.raises::<Plan>("merge", "VMConsolidationNeeded", "ConsolidationNeeded").await;

    // what a lost migration left is offered for removal, and nothing else is removed
    live.vcenter.snapshot("lost", "nightly").expect("a snapshot");
    live.vcenter.snapshot("lost", "forklift-migration-precopy-0123-4").expect("a snapshot");
    live.cluster.eventually("the snapshots", || async { live.machine("lost").await.traits.snapshots == 1 }).await;
    live.cluster
        .eventually("what was left", || async { live.machine("lost").await.traits.migration_snapshots.len() == 1 })
        .await;
    live.plan("lost", &["lost"], warm).await;
    let found = live.raises::<Plan>("lost", "StaleSnapshots", "NotValid").await;
    assert!(items(&found)[0].ends_with("forklift-migration-precopy-0123-4"), "{found}");
    assert_eq!(live.vcenter.snapshots("lost").expect("names").len(), 2, "nobody has asked for the removal");
    let ask = Patch::Merge(json!({"metadata": {"annotations": {annotations::REMOVE_STALE_SNAPSHOTS: "true"}}}));
    live.cluster.api::<Plan>().patch("lost", &PatchParams::default(), &ask).await.expect("is changed");
    live.cluster.lacks::<Plan>("lost", "StaleSnapshots").await;
    assert_eq!(live.vcenter.snapshots("lost").expect("names"), ["nightly"]);
    live.accepts("lost", "StaleSnapshots").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_machines_share() {
    let Some(live) = Live::ready(Options { off: true, ..named(&["one", "two", "three", "apart"]) }).await else {
        return;
    };
    live.map(&["one"]).await;
    let disk =
        live.vcenter.machine("one").expect("it is there")["disks"][0]["base"].as_str().unwrap_or_default().to_owned();
    live.vcenter.set_disk("two", 0, "file", &disk).expect("a change");
    live.count_anew();
    live.plan("both", &["one", "two"], |_| {}).await;
    let found = live.raises::<Plan>("both", "SharedWarnDisks", "NotValid").await;
    assert!(items(&found)[0].contains("will be copied 2x"), "{found}");
    assert!(found["suggestion"].as_str().is_some_and(|text| text.contains("migrateSharedDisks")), "{found}");
    // the procedure of two plans: the first takes the disk along, the second finds its claim
    live.plan("first", &["one"], |_| {}).await;
    live.accepts("first", "SharedWarnDisks").await;
    live.plan("second", &["two"], |spec| spec.migrate_shared_disks = false).await;
    let found = live.raises::<Plan>("second", "SharedWarnDisks", "NotValid").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("will not be attached")), "{found}");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(live.cluster.client.clone(), TARGET);
    let key = live.machine("two").await.disks[0].key.clone();
    let claim = json!({"metadata": {"name": "copied", "labels": {labels::SHAREABLE: "true"},
        "annotations": {annotations::DISK_SOURCE: key}}, "spec": {"accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "64Mi"}}}});
    claims.create(&PostParams::default(), &serde_json::from_value(claim).expect("a claim")).await.expect("is created");
    live.again("second").await;
    live.cluster
        .until("second", |plan: Option<&Plan>| plan.is_some_and(|plan| has(Some(plan), "Ready") && !warns(plan)))
        .await;
    live.again("first").await;
    let found = live.raises::<Plan>("first", "SharedWarnDisks", "NotValid").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("copied again")), "{found}");

    live.plan("shared-warm", &["two"], warm).await;
    live.raises::<Plan>("shared-warm", "SharedDisks", "NotSupported").await;
    live.refuses("shared-warm").await;
    live.vcenter.power("one", true).expect("a change");
    live.cluster.eventually("it runs", || async { live.machine("one").await.power == PowerState::On }).await;
    live.count_anew();
    live.plan("runs", &["two"], |_| {}).await;
    let found = live.raises::<Plan>("runs", "SharedDisks", "NotValid").await;
    assert_eq!(items(&found), ["one"], "it is not of the plan, and runs");
    live.refuses("runs").await;
}

fn warns(plan: &Plan) -> bool {
    let conditions = plan.status.iter().flat_map(|status| status.conditions.iter());
    conditions.into_iter().any(|condition| condition.type_.starts_with("SharedWarnDisks"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_machines_share_disks_in_a_ring() {
    let options = Options { off: true, disks: 2, ..named(&["one", "two", "three"]) };
    let Some(live) = Live::ready(options).await else { return };
    live.map(&["one"]).await;
    let file = |vm: &str| {
        let machine = live.vcenter.machine(vm).expect("it is there");
        machine["disks"][1]["base"].as_str().unwrap_or_default().to_owned()
    };
    // each has a disk of its own, and the next one's beside it
    let files = [file("one"), file("two"), file("three")];
    for (vm, file) in [("one", &files[1]), ("two", &files[2]), ("three", &files[0])] {
        live.vcenter.set_disk(vm, 0, "file", file).expect("a change");
    }
    for vm in ["one", "two", "three"] {
        live.knows(vm, |machine| machine.disks.iter().filter(|disk| disk.shared).count() == 2).await;
    }
    live.count_anew();
    live.plan("ring", &["one", "two", "three"], |_| {}).await;
    let found = live.raises::<Plan>("ring", "SharedWarnDisks", "NotValid").await;
    assert!(found["suggestion"].as_str().is_some_and(|text| text.contains("in a ring")), "{found}");
    assert_eq!(items(&found).len(), 2, "{found}");
    let plan = live.cluster.until("ring", |plan: Option<&Plan>| has(plan, "Ready")).await;
    assert!(!says(&plan, "VMNotFound"));
    live.untouched();
}
