//! The provider as the controllers use it: examined, collected, its VMs as a source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forklift_api::ProviderType;
use forklift_core::machine::PowerState;
use forklift_core::source::{Source, SourceError};
use forklift_inventory::Inventory;
use forklift_providers::{ConnectError, Context, Endpoint, Found, Registry, Thing};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use tokio_util::sync::CancellationToken;

use crate::source::provider;
use crate::{start, until};

fn registry() -> Registry {
    // nothing here asks a cluster
    let config = kube::Config::new("http://127.0.0.1:9".parse().expect("a URL"));
    let client = kube::Client::try_from(config).expect("a client");
    let context = Context { client, config: None, namespace: "ns".into(), shared: Default::default() };
    Registry::new(Inventory::new(None), context)
}

/// Collects until the inventory is complete.
async fn collected(
    registry: &Registry,
    endpoint: &Endpoint,
) -> (CancellationToken, tokio::task::JoinHandle<Result<(), ConnectError>>) {
    let cancel = CancellationToken::new();
    let task = tokio::spawn({
        let (registry, endpoint, cancel) = (registry.clone(), endpoint.clone(), cancel.clone());
        async move { registry.collect(endpoint, cancel).await }
    });
    until("the inventory is complete", || registry.loaded(&endpoint.provider)).await;
    (cancel, task)
}

async fn web(registry: &Registry, endpoint: &Endpoint) -> (Arc<dyn Source>, forklift_core::machine::Machine) {
    let source = registry.source(&endpoint.provider).expect("a source");
    let reference = forklift_api::Ref { name: "web".into(), ..Default::default() };
    let Found::One(found, _) = registry.find(&endpoint.provider, Thing::Vm, &reference).await else { panic!("the VM") };
    let machine = source.machine(&found.id).await.expect("the VM");
    (source, machine)
}

#[tokio::test]
async fn a_provider_is_examined_collected_and_migrated_from_in_few_sessions() {
    let Some(vcenter) = start(&["web"]) else { return };
    let (registry, endpoint) = (registry(), provider(&vcenter, &[]));
    assert!(registry.capabilities(ProviderType::VSphere).is_some_and(|can| can.warm && can.power));
    assert_eq!(registry.check(&endpoint), []);
    assert!(registry.source(&endpoint.provider).is_err(), "before anything was collected");
    vcenter.fault(&Fault::Deny(vec!["Datastore.Browse".into()])).expect("denied");
    let found = registry.examine(&endpoint).await.expect("examined");
    assert_eq!(found.fingerprint.as_deref(), Some(vcenter.thumbprint()));
    assert_eq!(found.conditions.iter().flat_map(|c| c.items.clone()).collect::<Vec<_>>(), ["Datastore.Browse"]);

    let (cancel, collecting) = collected(&registry, &endpoint).await;
    let (source, machine) = web(&registry, &endpoint).await;
    let told = vcenter.machine("web").expect("the VM");
    assert_eq!(Some(machine.instance_uuid.as_str()), told["instanceUuid"].as_str());
    assert_eq!(source.disk_sources(&machine).await.expect("disks").len(), 1);
    let (identity, power) = source.power_state(&machine.id).await.expect("its state");
    assert_eq!((&identity, power), (&machine.identity(), PowerState::On));
    let snapshots = source.snapshots().expect("snapshots");
    snapshots.ensure(&identity, "forklift-migration-precopy-x-0").await.expect("taken");
    let facts = snapshots.list(&identity, "forklift-migration-precopy-x-").await.expect("listed");
    assert_eq!(facts[0].deltas[0].disk, machine.disks[0].key, "deltas are keyed as disks are");
    until("the inventory shows the snapshot", || {
        let record = registry.inventory().get("u").and_then(|entry| entry.store().get("vms", &machine.id));
        let vm = record.as_ref().and_then(|record| record.native::<forklift_providers::vsphere::model::Vm>());
        vm.is_some_and(|vm| vm.snapshots.ours.len() == 1)
    })
    .await;
    // disks are told by their base although the VM now writes a delta
    let (source, machine) = web(&registry, &endpoint).await;
    assert_eq!(source.disk_sources(&machine).await.expect("disks").len(), 1);
    let calls = vcenter.calls().expect("counters");
    assert_eq!((calls.logins(), calls.sessions()), (2, 1), "one to examine, one for all the rest");

    cancel.cancel();
    collecting.await.expect("no panic").expect("cancelled");
    registry.release().await;
    assert_eq!(vcenter.calls().expect("counters").sessions(), 0);
}

#[tokio::test]
async fn new_credentials_are_taken_over_and_old_ones_tried_once() {
    let Some(vcenter) = start(&["web"]) else { return };
    let (registry, endpoint) = (registry(), provider(&vcenter, &[]));
    let (_cancel, collecting) = collected(&registry, &endpoint).await;
    let (source, machine) = web(&registry, &endpoint).await;
    vcenter.fault(&Fault::Password("new".into())).expect("changed");
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    let ended = collecting.await.expect("no panic");
    assert!(matches!(ended, Err(ConnectError::Auth(_))), "{ended:?}");
    assert!(source.power_state(&machine.id).await.is_err());
    assert_eq!(vcenter.calls().expect("counters").invalid_logins(), 1);
    let mut rotated = endpoint.clone();
    rotated.secret.insert("password".into(), b"new".to_vec());
    let (cancel, collecting) = collected(&registry, &rotated).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while registry.source(&rotated.provider).expect("a source").power_state(&machine.id).await.is_err() {
        assert!(Instant::now() < deadline, "the new password is not used");
        tokio::task::yield_now().await;
    }
    // who still holds the old credentials does not send them, and disturbs nobody
    assert!(matches!(source.power_state(&machine.id).await, Err(SourceError::Denied(_))));
    assert!(registry.source(&rotated.provider).expect("a source").power_state(&machine.id).await.is_ok());
    let calls = vcenter.calls().expect("counters");
    assert_eq!((calls.invalid_logins(), calls.sessions()), (1, 1));
    // the old password holds again: whoever looked starts a collector, and it is tried once more
    cancel.cancel();
    collecting.await.expect("no panic").expect("cancelled");
    vcenter.fault(&Fault::Password(vcenter.password().into())).expect("changed back");
    let (_cancel, _collecting) = collected(&registry, &endpoint).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while registry.source(&endpoint.provider).expect("a source").power_state(&machine.id).await.is_err() {
        assert!(Instant::now() < deadline, "the password is not tried again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_esxi_host_is_a_source_too() {
    let Some(vcenter) = Vcenter::start(Options { esx: true, vms: 1, names: vec!["web".into()], ..Options::default() })
    else {
        return;
    };
    let registry = registry();
    let wrong = registry.examine(&provider(&vcenter, &[])).await.expect_err("no vCenter").to_string();
    assert!(wrong.contains("is an ESXi host"), "{wrong}");
    let endpoint = provider(&vcenter, &[("sdkEndpoint", "esxi")]);
    registry.examine(&endpoint).await.expect("examined");
    let (cancel, _collecting) = collected(&registry, &endpoint).await;
    let (source, machine) = web(&registry, &endpoint).await;
    let identity = machine.identity();
    let snapshots = source.snapshots().expect("snapshots");
    snapshots.ensure(&identity, "forklift-migration-precopy-x-0").await.expect("taken");
    assert_eq!(snapshots.list(&identity, "forklift").await.expect("listed").len(), 1);
    snapshots.remove(&identity, "forklift-migration-precopy-x-0").await.expect("removed");
    vcenter.guest("web", true, false, false).expect("tools");
    source.power_off(&identity).await.expect("asked");
    let deadline = Instant::now() + Duration::from_secs(30);
    while source.power_state(&machine.id).await.expect("its state").1 != PowerState::Off {
        assert!(Instant::now() < deadline, "it does not go down");
    }
    cancel.cancel();
}

#[tokio::test]
async fn an_old_vcenter_is_asked_in_its_own_version() {
    let Some(vcenter) =
        Vcenter::start(Options { version: "6.5".into(), names: vec!["web".into()], vms: 1, ..Options::default() })
    else {
        return;
    };
    let (registry, endpoint) = (registry(), provider(&vcenter, &[]));
    registry.examine(&endpoint).await.expect("examined");
    let (cancel, _collecting) = collected(&registry, &endpoint).await;
    let (_, machine) = web(&registry, &endpoint).await;
    assert_eq!(machine.name, "web");
    cancel.cancel();
}
