//! Rules of users in a ConfigMap: taken when it is written, changed, deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forklift_controllers::rules::{Places, follow};
use forklift_validation::Validator;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, NS};

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_with_rules_is_in_use_as_soon_as_it_is_written() {
    let cluster = Cluster::start().await;
    let validator = Validator::new();
    let bundled = validator.rules_version("ova");
    let changes = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let places = Places { namespace: NS.to_owned(), ..Places::default() };
    let counter = changes.clone();
    let following = tokio::spawn(follow(
        cluster.client.clone(),
        places,
        validator.clone(),
        move || {
            counter.fetch_add(1, Ordering::SeqCst);
        },
        stop.clone(),
    ));
    let ids = || -> Vec<String> {
        let vm = json!({"name": "vm", "exportSource": "VMware"});
        validator.concerns("ova", &vm).expect("the rules hold").into_iter().map(|concern| concern.id).collect()
    };

    let rule = |id: &str| {
        format!(
            "package io.konveyor.forklift.ova\n\nconcerns[flag] {{\n  input.name\n  flag := {{\"id\": \"{id}\"}}\n}}\n"
        )
    };
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), NS);
    let map = json!({
        "metadata": {"name": "forklift-validation-config"},
        "data": {"site.rego": rule("site.first"), "broken.rego": "package io.konveyor.forklift.ova\np := [\n"},
    });
    maps.create(&PostParams::default(), &serde_json::from_value(map).expect("a ConfigMap")).await.expect("created");
    until("the rule", || ids() == ["site.first"]).await;
    assert_ne!(validator.rules_version("ova"), bundled, "VMs are to be judged again");
    let errors: Vec<String> = validator.rule_errors().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["broken.rego:3: expected a value, found the end of the file"]);

    let patch = Patch::Merge(json!({"data": {"site.rego": rule("site.second"), "broken.rego": null}}));
    maps.patch("forklift-validation-config", &PatchParams::default(), &patch).await.expect("changed");
    until("the changed rule", || ids() == ["site.second"]).await;
    until("a call for each change", || changes.load(Ordering::SeqCst) >= 2).await;

    maps.delete("forklift-validation-config", &DeleteParams::default()).await.expect("deleted");
    until("the bundled rules alone", || ids().is_empty()).await;
    assert_eq!(validator.rules_version("ova"), bundled);
    stop.cancel();
    following.await.expect("it ends");
}
