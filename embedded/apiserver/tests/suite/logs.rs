use std::sync::Arc;

use axum::extract::{Path, Query};
use serde_json::json;

use crate::Fixture;

#[tokio::test]
async fn logs_come_from_the_pods_node() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let more = Arc::new(tokio::sync::Notify::new());
    let gate = more.clone();
    let answer = move |Path(path): Path<String>,
                       Query(query): Query<std::collections::BTreeMap<String, String>>,
                       headers: axum::http::HeaderMap| async move {
        let first = format!("{path} {query:?} {}\n", headers["authorization"].to_str().unwrap());
        let stream = async_stream::stream! {
            yield Ok::<_, std::convert::Infallible>(first);
            gate.notified().await;
            yield Ok("second\n".to_string());
        };
        axum::body::Body::from_stream(stream)
    };
    let kubelet = axum::Router::new().route("/containerLogs/{*path}", axum::routing::get(answer));
    let kubelet = tokio::spawn(async move { axum::serve(listener, kubelet).await });

    let dir = tempfile::tempdir().unwrap();
    let mut config = apiserver::Config::new(dir.path());
    config.kubelet_token = "kt".into();
    let server = apiserver::start(config).await.unwrap();
    let http = crate::http_client(&server);
    let f = Fixture { server, http, dir };
    f.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    f.send("PATCH", "/api/v1/nodes/n/status", "application/merge-patch+json", Some(&status)).await;
    let pods = "/api/v1/namespaces/default/pods";
    f.post(
        pods,
        &json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}),
    )
    .await;

    let request = f
        .http
        .get(format!("{}{pods}/p/log?follow=true&tailLines=5&other=x", f.server.url()))
        .bearer_auth(f.server.admin_token());
    let mut response = request.send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&first), "default/p/c {\"follow\": \"true\", \"tailLines\": \"5\"} Bearer kt\n");
    more.notify_one();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "second\n");
    let (code, status) = f.get(&format!("{pods}/p/log?container=z")).await;
    assert_eq!((code, status["message"].as_str()), (400, Some("container z is not valid for pod p")));
    kubelet.abort();
}
