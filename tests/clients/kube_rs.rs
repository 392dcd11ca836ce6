//! kube-rs: typed and dynamic clients, a watcher, server-side apply, discovery.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::json;

use crate::normalise::{difference, normalise};
use crate::servers::both;

async fn client(path: &std::path::Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}

async fn program(client: Client) -> Result<String> {
    let mut seen = String::new();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "rust"}}))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "rust");

    let mut events = watcher(maps.clone(), watcher::Config::default().labels("app=demo")).applied_objects().boxed();
    for name in ["one", "two"] {
        let map: ConfigMap = serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"app": "demo"}}, "data": {"key": "value"}}),
        )?;
        let made = maps.create(&PostParams::default(), &map).await?;
        seen += &format!("created {} generation {:?}\n", made.name_any(), made.metadata.generation);
    }
    let same = serde_json::from_value(json!({"metadata": {"name": "one"}}))?;
    let again = maps.create(&PostParams::default(), &same).await;
    seen += &format!("created twice: {}\n", again.expect_err("the name is taken"));
    for _ in 0..2 {
        let event = tokio::time::timeout(Duration::from_secs(20), events.try_next()).await.context("no event")??;
        seen += &format!("watched {}\n", event.context("the watch ended")?.name_any());
    }

    let apply = PatchParams::apply("rust-program");
    let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "mine"}});
    let refused = maps.patch("one", &apply, &Patch::Apply(&patch)).await.expect_err("another manager has the field");
    seen += &format!("conflict: {refused}\n");
    let forced = maps.patch("one", &apply.clone().force(), &Patch::Apply(&patch)).await?;
    seen += &format!("forced: {:?}\n", forced.data);
    for entry in forced.managed_fields() {
        seen += &format!("  manager {:?} {:?}\n", entry.operation, entry.fields_v1);
    }
    let patch = Patch::Merge(json!({"data": {"key": null, "new": "1"}}));
    let merged = maps.patch("two", &PatchParams::default(), &patch).await?;
    seen += &format!("merged: {:?}\n", merged.data);

    let page = maps.list(&ListParams::default().labels("app=demo").limit(1)).await?;
    seen += &format!("page of {} remaining {:?}\n", page.items.len(), page.metadata.remaining_item_count);
    let rest =
        ListParams::default().labels("app=demo").limit(10).continue_token(&page.metadata.continue_.unwrap_or_default());
    for map in maps.list(&rest).await? {
        seen += &format!("listed {}\n", map.name_any());
    }

    let discovery = kube::discovery::group(&client, "apps").await?;
    let (resource, capabilities) = discovery.recommended_kind("Deployment").context("no Deployment")?;
    seen += &format!("{}/{} {} {:?}\n", resource.group, resource.version, resource.plural, capabilities.scope);
    let deployments: Api<DynamicObject> = Api::namespaced_with(client.clone(), "rust", &resource);
    let bad = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "c"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let refused = deployments.create(&PostParams::default(), &serde_json::from_value(bad)?).await;
    seen += &format!("invalid: {}\n", refused.expect_err("the selector does not match"));

    let gone = maps.delete("two", &DeleteParams::default()).await?;
    seen += &format!("deleted: {:?}\n", gone.right().map(|status| (status.code, status.status)));
    seen += &format!("missing: {}\n", maps.get("two").await.expect_err("it was deleted"));
    namespaces.delete("rust", &DeleteParams::default()).await?;
    Ok(seen)
}

#[test]
fn kube_rs_sees_the_same_on_both_servers() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(servers) = both() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let outputs = servers.each_ref().map(|server| {
        let seen = runtime.block_on(async { program(client(&server.kubeconfig()).await?).await });
        normalise(&seen.unwrap_or_else(|error| panic!("on {}: {error:#}", server.name)))
    });
    let lines = difference(&outputs[0], &outputs[1]);
    assert!(lines.is_empty(), "kube-rs: kube-apiserver (-) and ours (+) differ:\n{lines}");
}
