//! Sessions and credentials: how often somebody logs in, what a rotation costs, what is left at the end.
use std::sync::Arc;

use forklift_api::Provider;
use forklift_testkit::peers::vcenter::Fault;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Live, named};
use crate::cluster::{NS, background, has, provider, reference};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_tried_once() {
    let Some(mut live) = Live::start(named(&["web"])).await else { return };
    live.secret("credentials", &[("password", "wrong")]).await;
    live.cluster.create(live.provider("src")).await;
    live.raises::<Provider>("src", "ConnectionAuthFailed", "Tested").await;
    // owners, labels and settings of copies are no new credentials
    let label = Patch::Merge(json!({"metadata": {"labels": {"createdForProviderType": "vsphere"}}}));
    let secrets = live.cluster.api::<Secret>();
    let secret = secrets.patch("credentials", &PatchParams::default(), &label).await.expect("is changed");
    live.change::<Provider>("src", json!({"settings": {"bandwidthLimit": "1000"}})).await;
    let version = secret.resource_version();
    live.cluster
        .until("src", move |provider: Option<&Provider>| {
            provider.is_some_and(|provider| {
                let status = provider.status.clone().unwrap_or_default();
                Some(&status.secret_resource_version) == version.as_ref()
                    && Some(status.observed_generation) == provider.metadata.generation
            })
        })
        .await;
    live.raises::<Provider>("src", "ConnectionAuthFailed", "Tested").await;
    live.restart().await;
    live.cluster.create(provider("marker", "vpshere", "x")).await;
    live.raises::<Provider>("marker", "ProviderTypeNotSupported", "NotSupported").await;
    live.raises::<Provider>("src", "ConnectionAuthFailed", "Tested").await;
    let calls = live.vcenter.calls().expect("counters");
    assert_eq!((calls.invalid_logins(), calls.logins(), calls.sessions()), (1, 0, 0), "{:?}", calls.methods());

    live.secret("credentials", &[]).await;
    live.raises::<Provider>("src", "Ready", "").await;
    live.cluster.lacks::<Provider>("src", "ConnectionAuthFailed").await;
    assert_eq!(live.vcenter.calls().expect("counters").invalid_logins(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_credentials_keep_the_records() {
    let Some(live) = Live::ready(named(&["web", "db"])).await else { return };
    let entry = live.registry.inventory().find_provider(NS, "src").expect("it is there");
    let revisions = || -> Vec<u64> { entry.store().list("vms").iter().map(|vm| vm.revision).collect() };
    let before = revisions();
    live.vcenter.fault(&Fault::Password("new".into())).expect("a switch");
    live.vcenter.fault(&Fault::ExpireSessions).expect("a switch");
    live.raises::<Provider>("src", "ConnectionAuthFailed", "Tested").await;
    assert_eq!(live.vcenter.calls().expect("counters").invalid_logins(), 1, "the account is not locked");
    assert_eq!(revisions(), before, "what is known stays readable");
    live.secret("credentials", &[("password", "new")]).await;
    live.raises::<Provider>("src", "Ready", "").await;
    live.cluster.lacks::<Provider>("src", "ConnectionAuthFailed").await;
    let now = live.registry.inventory().find_provider(NS, "src").expect("it is there");
    assert!(Arc::ptr_eq(&entry, &now), "the same store");
    live.vcenter.set("VirtualMachine", "web", &json!({"name": "followed"})).expect("a change");
    live.cluster.eventually("changes are followed", || async { revisions() != before }).await;
    assert_eq!(live.vcenter.calls().expect("counters").invalid_logins(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_and_a_connection_that_breaks_cost_no_update() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    let faults = [
        ("expired", vec![Fault::ExpireSessions]),
        ("closed", vec![Fault::Close("WaitForUpdatesEx".into()), Fault::ExpireSessions]),
        ("lost", vec![Fault::LoseAnswer("WaitForUpdatesEx".into())]),
        ("refused", vec![Fault::Status("WaitForUpdatesEx".into(), 503), Fault::ExpireSessions]),
        (
            "gone",
            vec![Fault::FailNext("WaitForUpdatesEx".into(), "ManagedObjectNotFound".into()), Fault::ExpireSessions],
        ),
    ];
    for (name, faults) in faults {
        for fault in &faults {
            live.vcenter.fault(fault).expect("a switch");
        }
        let id = live.vcenter.machine("web").or_else(|_| live.vcenter.machines().map(|mut all| all.remove(0)));
        let id = id.expect("there is one")["id"].as_str().unwrap_or_default().to_owned();
        live.vcenter.set("VirtualMachine", &id, &json!({"name": name})).expect("a change");
        live.cluster
            .eventually(name, || async {
                let entry = live.registry.inventory().find_provider(NS, "src").expect("it is there");
                entry.store().list("vms").iter().any(|vm| &*vm.name == name)
            })
            .await;
    }
    assert_eq!(live.vcenter.calls().expect("counters").invalid_logins(), 0);
}

/// `create provider` writes the secret, then the provider, then the secret's owner: while the first look runs, the secret
/// changes under it, and the collector of the first look is replaced at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_load_whose_secrets_change_as_they_are_made() {
    let Some(live) = Live::start(named(&["web"])).await else { return };
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    for round in 0..2 {
        let live = &live;
        let make = names.iter().map(|name| async move {
            live.secret(name, &[("round", "first")]).await;
            let mut provider = live.provider(name);
            provider.spec.secret = reference(name);
            let made = live.cluster.create(provider).await;
            for note in ["second", "third"] {
                live.secret(name, &[("round", note)]).await;
            }
            let owner = json!([{"apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider", "name": name,
                "uid": made.uid()}]);
            let owner = Patch::Merge(json!({"metadata": {"ownerReferences": owner}}));
            live.cluster.api::<Secret>().patch(name, &PatchParams::default(), &owner).await.expect("is changed");
            live.cluster.until(name, |provider: Option<&Provider>| has(provider, "Ready")).await;
        });
        futures::future::join_all(make).await;
        // one each, beside those that look and leave
        let few = || live.vcenter.calls().is_ok_and(|calls| calls.sessions() <= names.len() as u64);
        live.cluster.eventually(&format!("round {round}: a session each"), || async { few() }).await;
        for name in &names {
            live.cluster.api::<Provider>().delete(name, &background()).await.expect("is deleted");
        }
        live.cluster
            .eventually("nothing is left of them", || async {
                let sessions = live.vcenter.calls().is_ok_and(|calls| calls.sessions() == 0);
                sessions && live.registry.inventory().list().is_empty()
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_shows_what_was_known_and_releases_its_session() {
    let Some(mut live) = Live::ready(named(&["web"])).await else { return };
    live.cluster.stop_controllers().await;
    live.registry.inventory().save().await;
    live.registry.release().await;
    live.cluster
        .eventually("no session is left", || async { live.vcenter.calls().is_ok_and(|calls| calls.sessions() == 0) })
        .await;
    // the source is slow to tell: what the last run knew is there meanwhile, and not called complete
    live.vcenter.fault(&Fault::Delay("CreateFilter".into(), 4000)).expect("a switch");
    live.restart().await;
    live.raises::<Provider>("src", "LoadInventory", "Started").await;
    let entry = live.registry.inventory().find_provider(NS, "src").expect("it is there");
    assert_eq!((entry.store().count("vms"), entry.store().has_parity()), (1, false));
    live.raises::<Provider>("src", "InventoryCreated", "Completed").await;
}
