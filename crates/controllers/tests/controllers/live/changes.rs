//! What changes at the source while a plan waits, and just before it begins.
use std::time::{Duration, Instant};

use forklift_api::{Migration, NetworkMap, Plan};
use forklift_testkit::peers::vcenter::Fault;
use serde_json::json;

use super::{Live, items, named};
use crate::cluster::{NS, condition, has};

/// A plan that is ready is looked at by itself every half a minute; what comes sooner was brought by the inventory.
const BY_ITSELF: Duration = Duration::from_secs(20);

async fn migrate(live: &Live, plan: &str) {
    let spec = json!({"plan": {"name": plan, "namespace": NS}});
    live.cluster.create(Migration::new(plan, serde_json::from_value(spec).expect("a spec"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_sees_what_changes_at_its_source() {
    let Some(live) = Live::ready(named(&["web", "db", "apart"])).await else { return };
    live.map(&["web"]).await;
    live.plan("both", &["web", "db"], |_| {}).await;
    live.plan("later", &["tomorrow"], |_| {}).await;
    live.accepts("both", "VMConsolidationNeeded").await;
    live.raises::<Plan>("later", "VMNotFound", "NotFound").await;
    let begun = Instant::now();
    // a machine that it names
    live.vcenter.set("VirtualMachine", "db", &json!({"runtime.connectionState": "inaccessible"})).expect("a change");
    live.raises::<Plan>("both", "VMMigrationTypeUnsupported", "NotSupported").await;
    live.vcenter.set("VirtualMachine", "db", &json!({"runtime.connectionState": "connected"})).expect("a change");
    live.accepts("both", "VMMigrationTypeUnsupported").await;
    // a machine that was not there
    live.vcenter.set("VirtualMachine", "apart", &json!({"name": "tomorrow"})).expect("a change");
    live.accepts("later", "VMNotFound").await;
    // a network that its map names
    let network = live.machine("web").await.nics[0].network.id.clone();
    live.vcenter.set("DistributedVirtualPortgroup", &network, &json!({"name": "other"})).expect("a change");
    let renamed = |map: Option<&NetworkMap>| {
        let references = map.and_then(|map| map.status.as_ref()).into_iter().flat_map(|status| &status.references);
        references.into_iter().any(|reference| reference.name == "other")
    };
    live.cluster.until("all", renamed).await;
    assert!(begun.elapsed() < BY_ITSELF, "{:?}: nobody told the plans", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_begins_on_an_inventory_that_lags_behind() {
    let Some(live) = Live::ready(named(&["web", "other"])).await else { return };
    live.map(&["web"]).await;
    live.plan("web", &["web"], |_| {}).await;
    live.accepts("web", "VMMigrationTypeUnsupported").await;
    // the answer to the question that is open brings the other machine; the next question is held up
    live.vcenter.fault(&Fault::Delay("WaitForUpdatesEx".into(), 25_000)).expect("a fault");
    live.vcenter.set("VirtualMachine", "other", &json!({"name": "renamed"})).expect("a change");
    live.cluster.eventually("the answer", || async { live.machine("renamed").await.name == "renamed" }).await;
    live.vcenter.set("VirtualMachine", "web", &json!({"runtime.connectionState": "inaccessible"})).expect("a change");
    live.count_anew();
    migrate(&live, "web").await;
    live.raises::<Plan>("web", "VMMigrationTypeUnsupported", "NotSupported").await;
    live.untouched();
    let refused = live.cluster.raises::<Migration>("web", "PlanNotReady", "NotFound").await;
    assert_eq!(items(&refused)[0].split('-').next(), Some("VMMigrationTypeUnsupported"), "{refused}");
    let plan = live.cluster.api::<Plan>().get("web").await.expect("it is there");
    assert!(plan.status.expect("a status").migration.history.is_empty(), "a run began");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_its_plan_and_begins_by_itself() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    live.map(&["web"]).await;
    live.plan("web", &["web"], |_| {}).await;
    live.accepts("web", "SourceProviderNotReady").await;
    // the source does not say how the machine is now
    live.count_anew();
    let refuse = Fault::Fail("RetrievePropertiesEx".into(), "NotSupported".into(), -1, 0);
    live.vcenter.fault(&refuse).expect("a fault");
    migrate(&live, "web").await;
    let found = live.raises::<Plan>("web", "SourceProviderNotReady", "NotFound").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("before the start")), "{found}");
    let waits = live.cluster.raises::<Migration>("web", "PlanNotReady", "NotFound").await;
    assert!(waits["message"].as_str().is_some_and(|text| text.contains("before the start")), "{waits}");
    assert!(waits["suggestion"].as_str().is_some_and(|text| text.contains("begins by itself")), "{waits}");
    live.untouched();
    live.vcenter.fault(&Fault::Clear).expect("no faults");
    live.cluster.until("web", |plan: Option<&Plan>| has(plan, "Executing")).await;
    let running = live.cluster.until("web", |migration: Option<&Migration>| has(migration, "Running")).await;
    assert!(condition(Some(&running), "PlanNotReady").is_none(), "{running:#?}");
}
