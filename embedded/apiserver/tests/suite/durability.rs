use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

const CHILD: &str = "APISERVER_TEST_CHILD_DIRECTORY";

/// Set in the environment, the variable makes this very test the server that the other process kills.
async fn serve_as_child(directory: String) {
    // a short history, so that compaction happens between kills too
    let config = apiserver::Config { history: 200, ..apiserver::Config::new(&directory) };
    let server = apiserver::start(config).await.unwrap();
    println!("serving {}", server.url());
    std::future::pending::<()>().await;
}

/// A server in a process of its own.
pub struct Child {
    pub process: tokio::process::Child,
    pub url: String,
}

impl Child {
    pub async fn start(directory: &Path) -> Self {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "durability::acknowledged_writes_survive_kill_9", "--nocapture"])
            .env(CHILD, directory);
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("the server ended before it served");
            if let Some((_, url)) = line.split_once("serving ") {
                return Self { url: url.to_string(), process };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9() {
    if let Ok(directory) = std::env::var(CHILD) {
        return serve_as_child(directory).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut newest = 0;
    for round in 0..5 {
        let mut child = Child::start(dir.path()).await;
        let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
        let http = crate::http_client_for(&std::fs::read_to_string(dir.path().join("ca.crt")).unwrap());
        let ask = |method: &str, path: String| {
            http.request(method.parse().unwrap(), format!("{}{path}", child.url)).bearer_auth(&token)
        };
        for (name, revision) in &known {
            let found: Value = ask("GET", format!("{MAPS}/{name}")).send().await.unwrap().json().await.unwrap();
            let found: u64 = found["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            // a write whose answer the kill cut off may be there too
            assert!(found >= *revision, "{name}: {found} is older than the acknowledged {revision}");
        }
        let mut writes: FuturesUnordered<_> = (0..300)
            .map(|n| {
                let name = format!("m{}", n % 30);
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": format!("{round}.{n}")}});
                let request = ask("PATCH", format!("{MAPS}/{name}?fieldManager=m&force=true")).header("content-type", "application/apply-patch+yaml");
                async move {
                    let response = request.body(body.to_string()).send().await.ok()?;
                    let value: Value = response.json().await.ok()?;
                    Some((name, value["metadata"]["resourceVersion"].as_str()?.parse::<u64>().ok()?))
                }
            })
            .collect();
        let mut acknowledged = 0;
        while let Some(answer) = writes.next().await {
            if let Some((name, revision)) = answer {
                acknowledged += 1;
                assert!(revision > newest, "revision {revision} was used before the restart (newest {newest})");
                let known = known.entry(name).or_default();
                *known = revision.max(*known);
            }
            if acknowledged == 100 {
                child.process.start_kill().unwrap();
            }
        }
        assert!(acknowledged >= 100);
        newest = *known.values().max().unwrap();
        child.process.wait().await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_serves_the_same_definitions_and_objects() {
    let f = Fixture::start().await;
    f.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crate::custom::crd()).await;
    let widget = json!({"apiVersion": "ex.io/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}});
    let (_, before) = f.post("/apis/ex.io/v1/namespaces/default/widgets", &widget).await;
    let Fixture { server, dir, .. } = f;
    server.shutdown().await;
    let server = apiserver::start(apiserver::Config::new(dir.path())).await.unwrap();
    let http = crate::http_client(&server);
    let f = Fixture { server, http, dir };
    assert_eq!(f.get("/apis/ex.io/v1/namespaces/default/widgets/w").await, (200, before));
}
