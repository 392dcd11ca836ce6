use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Reads events of a watch until `count` came.
async fn events(f: &Fixture, query: &str, count: usize) -> Vec<(String, Value)> {
    let request =
        f.http.get(format!("{}{MAPS}?watch=true&{query}", f.server.url())).bearer_auth(f.server.admin_token());
    let mut stream = request.send().await.unwrap().bytes_stream();
    let (mut text, mut found) = (String::new(), Vec::new());
    while found.len() < count {
        let chunk = tokio::time::timeout(Duration::from_secs(10), stream.next())
            .await
            .unwrap_or_else(|_| panic!("only {found:?} came"));
        let Some(chunk) = chunk else { return found };
        text += std::str::from_utf8(&chunk.unwrap()).unwrap();
        while let Some((line, rest)) = text.split_once('\n') {
            let event: Value = serde_json::from_str(line).unwrap();
            found.push((event["type"].as_str().unwrap().to_string(), event["object"].clone()));
            text = rest.to_string();
        }
    }
    found
}

fn shown(events: &[(String, Value)]) -> Vec<String> {
    events
        .iter()
        .map(|(kind, object)| format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or("-")))
        .collect()
}

#[tokio::test]
async fn a_watch_goes_on_from_any_kept_revision() {
    let f = Fixture::start().await;
    let (_, list) = f.get(MAPS).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    f.post(MAPS, &json!({"metadata": {"name": "a", "labels": {"x": "1"}}})).await;
    f.send(
        "PATCH",
        &format!("{MAPS}/a"),
        "application/merge-patch+json",
        Some(&json!({"metadata": {"labels": {"x": "2"}}})),
    )
    .await;
    f.post(MAPS, &json!({"metadata": {"name": "b"}})).await;
    f.delete(&format!("{MAPS}/b")).await;
    let all = events(&f, &format!("resourceVersion={from}"), 4).await;
    assert_eq!(shown(&all), ["ADDED a", "MODIFIED a", "ADDED b", "DELETED b"]);
    let revision = |v: &Value| v["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(all.windows(2).all(|w| revision(&w[0].1) < revision(&w[1].1)));
    // what stops to match goes away for this watch
    let selected = events(&f, &format!("resourceVersion={from}&labelSelector=x%3D1"), 2).await;
    assert_eq!(shown(&selected), ["ADDED a", "DELETED a"]);
}

#[tokio::test]
async fn streaming_lists_and_old_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = apiserver::Config::new(dir.path());
    config.history = 20;
    let server = apiserver::start(config).await.unwrap();
    let http = crate::http_client(&server);
    let f = Fixture { server, http, dir };
    f.post(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let initial =
        events(&f, "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan", 3).await;
    assert_eq!(shown(&initial), ["ADDED a", "ADDED kube-root-ca.crt", "BOOKMARK -"]);
    assert_eq!(initial[2].1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    for n in 0..100 {
        f.send(
            "PATCH",
            &format!("{MAPS}/a"),
            "application/merge-patch+json",
            Some(&json!({"data": {"n": n.to_string()}})),
        )
        .await;
    }
    let gone = events(&f, "resourceVersion=1", 1).await;
    assert_eq!((gone[0].0.as_str(), gone[0].1["code"].as_i64()), ("ERROR", Some(410)));
    let ended = events(&f, "timeoutSeconds=1", 99).await;
    assert_eq!(shown(&ended), ["ADDED a", "ADDED kube-root-ca.crt"]);
}

#[tokio::test]
async fn a_kube_rs_watcher_sees_what_happens() {
    let f = Fixture::start().await;
    let api: Api<ConfigMap> = Api::namespaced(f.client(), "default");
    let mut stream = pin!(watcher(api.clone(), watcher::Config::default().streaming_lists()).applied_objects());
    let first = tokio::time::timeout(Duration::from_secs(10), stream.try_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.metadata.name.as_deref(), Some("kube-root-ca.crt"));
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "n"}, "data": {"a": "b"}})).unwrap();
    api.create(&PostParams::default(), &map).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), stream.try_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next.data.unwrap()["a"], "b");
}
