//! Providers of VMs: what they say about themselves, and what makes them log in.
use std::time::Duration;

use forklift_api::{Category, Condition, Provider};
use forklift_controllers::ports::{ConnectError, Examination};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, has, provider, reference};

const URL: &str = "https://vcenter.example/sdk";

fn vsphere(name: &str, secret: &str) -> Provider {
    let mut provider = provider(name, "vsphere", URL);
    provider.spec.secret = reference(secret);
    provider
}

async fn change(cluster: &Cluster, name: &str, spec: serde_json::Value) -> Provider {
    let patch = Patch::Merge(json!({"spec": spec}));
    let changed = cluster.api::<Provider>().patch(name, &PatchParams::default(), &patch).await.expect("is changed");
    let generation = changed.metadata.generation;
    cluster
        .until(name, move |p: Option<&Provider>| {
            p.is_some_and(|p| p.status.as_ref().map(|s| s.observed_generation) == generation)
        })
        .await
}

fn seen(name: &'static str, cluster: &Cluster) -> impl Future<Output = Provider> {
    cluster.until(name, |p: Option<&Provider>| p.is_some_and(|p| p.has_reconciled() && p.status.is_some()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_wrong() {
    let cluster = Cluster::start().await;
    cluster.create(provider("typo", "vpshere", URL)).await;
    cluster.raises::<Provider>("typo", "ProviderTypeNotSupported", "NotSupported").await;
    cluster.create(provider("empty", "vsphere", "")).await;
    cluster.raises::<Provider>("empty", "UrlNotValid", "NotSet").await;
    cluster.create(provider("odd", "vsphere", "not an address")).await;
    cluster.raises::<Provider>("odd", "UrlNotValid", "Malformed").await;
    let mut unset = vsphere("unset", "");
    unset.spec.secret = Default::default();
    cluster.create(unset).await;
    cluster.raises::<Provider>("unset", "SecretNotValid", "NotSet").await;
    cluster.create(vsphere("gone", "nowhere")).await;
    let found = cluster.raises::<Provider>("gone", "SecretNotValid", "NotFound").await;
    assert!(found["message"].as_str().is_some_and(|message| message.contains("nowhere")), "{found}");
    let gone = seen("gone", &cluster).await;
    assert_eq!(gone.status.and_then(|status| status.phase).map(|p| p.to_string()).as_deref(), Some("ValidationFailed"));
    assert_eq!(cluster.source.door(|door| door.logins), 0, "nobody is asked before all is well written");
    // What is missing is taken up as soon as it is there, and what was said about it goes.
    cluster.secret("nowhere", &[("user", "u"), ("password", "p")]).await;
    cluster.raises::<Provider>("gone", "Ready", "").await;
    cluster.lacks::<Provider>("gone", "SecretNotValid").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_login_to_ready() {
    let cluster = Cluster::start().await;
    cluster.secret("vc", &[("user", "u"), ("password", "p"), ("insecureSkipVerify", "true")]).await;
    let missing = Condition::new("InsufficientPrivileges", Category::Warn, "…").reason("PrivilegesNotGranted");
    cluster.source.door(|door| {
        door.loading = true;
        door.answer = Some(Ok(Examination {
            conditions: vec![missing],
            fingerprint: Some("AA:BB".into()),
            holds: Duration::from_secs(600),
        }));
    });
    cluster.create(vsphere("vc", "vc")).await;
    cluster.raises::<Provider>("vc", "LoadInventory", "Started").await;
    cluster.raises::<Provider>("vc", "ConnectionInsecure", "SkipTLSVerification").await;
    cluster.raises::<Provider>("vc", "ConnectionTestSucceeded", "Tested").await;
    cluster.raises::<Provider>("vc", "InsufficientPrivileges", "PrivilegesNotGranted").await;
    cluster.raises::<Provider>("vc", "Validated", "Completed").await;
    cluster.source.door(|door| door.loading = false);
    cluster.raises::<Provider>("vc", "InventoryCreated", "Completed").await;
    cluster.raises::<Provider>("vc", "Ready", "").await;
    let vc = seen("vc", &cluster).await;
    assert_eq!(vc.status.as_ref().map(|status| status.fingerprint.as_str()), Some("AA:BB"));
    assert_eq!(vc.status.and_then(|status| status.phase).map(|p| p.to_string()).as_deref(), Some("Ready"));
    assert!(!cluster.source.door(|door| door.logins > 1), "one look holds for ten minutes");
    cluster.lacks::<Provider>("vc", "LoadInventory").await;

    cluster.source.door(|door| door.failure = Some("the session was lost".into()));
    cluster.raises::<Provider>("vc", "InventoryError", "").await;
    assert!(cluster.source.door(|door| door.logins) >= 2, "a collector in trouble is a reason to look again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_matter_reloads_nothing_and_new_credentials_keep_the_records() {
    let cluster = Cluster::start().await;
    cluster.secret("vc", &[("user", "u"), ("password", "first")]).await;
    cluster.create(vsphere("vc", "vc")).await;
    cluster.raises::<Provider>("vc", "Ready", "").await;
    let same =
        change(&cluster, "vc", json!({"settings": {"bandwidthLimit": "1048576", "vddkInitImage": "r/i:1"}})).await;
    assert!(has(Some(&same), "Ready"));
    assert_eq!(cluster.source.door(|door| (door.collected.clone(), door.forgotten)), (vec!["first".into()], 0));

    cluster.secret("vc", &[("user", "u"), ("password", "second")]).await;
    cluster
        .eventually("a new session", || async {
            cluster.source.door(|door| door.collected.last().is_some_and(|password| password == "second"))
        })
        .await;
    assert_eq!(cluster.source.door(|door| (door.collected.len(), door.forgotten)), (2, 0), "the records stay");
    cluster.raises::<Provider>("vc", "Ready", "").await;

    change(&cluster, "vc", json!({"url": "https://other.example/sdk"})).await;
    cluster.eventually("a new inventory", || async { cluster.source.door(|door| door.forgotten == 1) }).await;
    assert_eq!(cluster.source.door(|door| door.collected.len()), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_are_not_tried_again_until_they_change() {
    let mut cluster = Cluster::start().await;
    cluster.source.door(|door| door.answer = Some(Err(ConnectError::Auth("incorrect user name or password".into()))));
    cluster.secret("vc", &[("user", "u"), ("password", "wrong")]).await;
    cluster.create(vsphere("vc", "vc")).await;
    cluster.raises::<Provider>("vc", "ConnectionAuthFailed", "Tested").await;
    change(&cluster, "vc", json!({"settings": {"bandwidthLimit": "1"}})).await;
    cluster.raises::<Provider>("vc", "ConnectionAuthFailed", "Tested").await;
    assert_eq!(cluster.source.door(|door| door.logins), 1, "another change is no reason");
    cluster.stop_controllers().await;
    cluster.run_controllers();
    cluster.create(provider("marker", "vpshere", URL)).await;
    cluster.raises::<Provider>("marker", "ProviderTypeNotSupported", "NotSupported").await;
    let still = cluster.raises::<Provider>("vc", "ConnectionAuthFailed", "Tested").await;
    assert_eq!(still["category"], "Critical");
    assert_eq!(cluster.source.door(|door| door.logins), 1, "nor is a new start of the controllers");

    cluster.source.door(|door| door.answer = None);
    cluster.secret("vc", &[("user", "u"), ("password", "right")]).await;
    cluster.raises::<Provider>("vc", "Ready", "").await;
    cluster.lacks::<Provider>("vc", "ConnectionAuthFailed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_whose_credentials_are_refused_ends() {
    let cluster = Cluster::start().await;
    let (end, ends) = tokio::sync::watch::channel(None);
    cluster.source.door(|door| door.collector_ends = Some(ends));
    cluster.secret("vc", &[("user", "u"), ("password", "old")]).await;
    cluster.create(vsphere("vc", "vc")).await;
    cluster.raises::<Provider>("vc", "Ready", "").await;
    end.send_replace(Some(ConnectError::Auth("the password has expired".into())));
    let found = cluster.raises::<Provider>("vc", "ConnectionAuthFailed", "Tested").await;
    assert_eq!(found["message"], "the password has expired");
    assert_eq!(cluster.source.door(|door| (door.logins, door.collected.len())), (1, 1), "nobody tries again");
    cluster.source.door(|door| door.collector_ends = None);
    cluster.secret("vc", &[("user", "u"), ("password", "new")]).await;
    cluster.raises::<Provider>("vc", "Ready", "").await;
    assert_eq!(cluster.source.door(|door| door.forgotten), 0, "the records stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_out_of_reach_is_tried_again() {
    let cluster = Cluster::start().await;
    cluster.source.door(|door| door.answer = Some(Err(ConnectError::Failed("cannot reach vCenter".into()))));
    cluster.secret("vc", &[("user", "u"), ("password", "p")]).await;
    cluster.create(vsphere("vc", "vc")).await;
    cluster.raises::<Provider>("vc", "ConnectionTestFailed", "Tested").await;
    let failed = seen("vc", &cluster).await;
    assert_eq!(failed.status.and_then(|s| s.phase).map(|p| p.to_string()).as_deref(), Some("ConnectionFailed"));
    cluster.source.door(|door| door.answer = None);
    cluster.raises::<Provider>("vc", "Ready", "").await;
    cluster.lacks::<Provider>("vc", "ConnectionTestFailed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kind_says_about_settings_and_secret_keeps_everybody_from_connecting() {
    let cluster = Cluster::start().await;
    let wrong = |type_: &str, reason: &str| Condition::new(type_, Category::Critical, "…").reason(reason);
    cluster
        .source
        .door(|door| door.check = vec![wrong("SettingsNotValid", "NotValid"), wrong("SecretNotValid", "DataErr")]);
    cluster.secret("vc", &[("user", "u")]).await;
    cluster.create(vsphere("vc", "vc")).await;
    cluster.raises::<Provider>("vc", "SettingsNotValid", "NotValid").await;
    cluster.raises::<Provider>("vc", "SecretNotValid", "DataErr").await;
    assert_eq!(cluster.source.door(|door| door.logins), 0);
}
