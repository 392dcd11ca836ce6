//! What providers, maps and hooks say about themselves.
use crate::cluster::{Cluster, condition, has, hook, network_map, provider, storage_map};
use forklift_api::{Hook, NetworkMap, Provider, StorageMap};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_name_what_is_missing_on_either_side() {
    let cluster = Cluster::start().await;
    cluster.create(network_map("early", "net", "pod")).await;
    let early = cluster.until("early", |map: Option<&NetworkMap>| has(map, "SourceProviderNotValid")).await;
    assert!(!has(Some(&early), "Ready"));

    cluster.create(provider("src", "vsphere", "https://vcenter.example/sdk")).await;
    cluster.create(provider("host", "openshift", "")).await;
    let early = cluster.until("early", |map: Option<&NetworkMap>| has(map, "Ready")).await;
    let references = early.status.map(|status| status.references).unwrap_or_default();
    assert_eq!(
        references.first().map(|reference| (reference.id.as_str(), reference.name.as_str())),
        Some(("net-1", "net"))
    );

    cluster.create(network_map("nad", "net", "default/nowhere")).await;
    let nad = cluster.until("nad", |map: Option<&NetworkMap>| has(map, "DestinationNetworkNotValid")).await;
    let found = condition(Some(&nad), "DestinationNetworkNotValid").expect("is there");
    assert_eq!((&found["reason"], &found["items"]), (&json!("NotFound"), &json!(["default/nowhere"])));

    cluster.create(network_map("source", "gone", "pod")).await;
    let source = cluster.until("source", |map: Option<&NetworkMap>| has(map, "Ready")).await;
    let found = condition(Some(&source), "SourceNetworkNotValid").expect("is there");
    assert_eq!(found["category"], "Warn", "a missing source does not block: maps are shared");

    cluster.create(storage_map("class", "ds", "nowhere")).await;
    let class = cluster.until("class", |map: Option<&StorageMap>| has(map, "DestinationStorageNotValid")).await;
    assert!(!has(Some(&class), "Ready"));
    cluster.create(storage_map("fine", "ds", "standard")).await;
    cluster.until("fine", |map: Option<&StorageMap>| has(map, "Ready")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_and_hooks_say_what_is_wrong_with_them() {
    let cluster = Cluster::start().await;
    cluster.create(provider("typo", "vpshere", "https://vcenter.example/sdk")).await;
    cluster.until("typo", |p: Option<&Provider>| has(p, "ProviderTypeNotSupported")).await;
    cluster.create(provider("url", "vsphere", "not an address")).await;
    let url = cluster.until("url", |p: Option<&Provider>| has(p, "UrlNotValid")).await;
    assert_eq!(condition(Some(&url), "UrlNotValid").map(|c| c["reason"].clone()), Some(json!("Malformed")));
    let mut secret = provider("secret", "vsphere", "https://vcenter.example/sdk");
    secret.spec.secret = crate::cluster::reference("nowhere");
    cluster.create(secret).await;
    let secret = cluster.until("secret", |p: Option<&Provider>| has(p, "SecretNotValid")).await;
    assert!(
        condition(Some(&secret), "SecretNotValid")
            .is_some_and(|c| c["message"].as_str().is_some_and(|m| m.contains("nowhere")))
    );
    cluster.create(provider("fine", "vsphere", "https://vcenter.example/sdk")).await;
    let fine = cluster.until("fine", |p: Option<&Provider>| has(p, "Ready")).await;
    assert!(has(Some(&fine), "ConnectionTestSucceeded") && has(Some(&fine), "InventoryCreated"));

    cluster.create(hook("both", json!({"image": "quay.io/x/y", "aap": {"jobTemplateId": 3}}))).await;
    cluster.until("both", |h: Option<&Hook>| has(h, "InvalidHookExecute")).await;
    cluster.create(hook("local", json!({"image": "quay.io/x/y", "playbook": "LSBob3N0czogYWxsCg=="}))).await;
    cluster.until("local", |h: Option<&Hook>| has(h, "Ready")).await;
}
