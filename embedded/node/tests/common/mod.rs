//! An API server and a node on it, for one test.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams, PostParams};
use kube::{Api, Client, Resource};
use node::Config;
use node::images::ImageTable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "kubelet-token";
pub const IMAGE: &str = "tests/shell:1";

/// An API server, and a node that can be stopped, killed and started again.
pub struct Stack {
    pub dir: tempfile::TempDir,
    pub client: Client,
    server: Option<apiserver::Handle>,
    node: Option<(tokio::task::JoinHandle<anyhow::Result<()>>, CancellationToken)>,
    pub config: Config,
}

impl Stack {
    /// Starts both.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts both, with settings of the test's own.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        // RUST_LOG shows what the node does; a second test in the process finds it set up
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = apiserver::Config::new(dir.path().join("api"));
        config.kubelet_token = TOKEN.into();
        let server = apiserver::start(config).await.expect("an API server");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&server.kubeconfig()).expect("a kubeconfig");
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a configuration");
        let client = Client::try_from(config).expect("a client");
        let mut config = Config::new("test-node", dir.path().join("node"), TOKEN);
        config.images = ImageTable::default().with(IMAGE, ["/bin/sh", "-c"]);
        config.restart_backoff = Duration::from_millis(100);
        config.shutdown_grace = Duration::from_millis(200);
        config.kubevirt = false;
        change(&mut config);
        let mut stack = Self { dir, client, server: Some(server), node: None, config };
        stack.start_node();
        stack
    }

    /// A kubeconfig of the API server.
    pub fn kubeconfig(&self) -> String {
        self.server.as_ref().expect("a server").kubeconfig()
    }

    /// Starts the node.
    pub fn start_node(&mut self) {
        let stop = CancellationToken::new();
        let run = node::run(self.client.clone(), self.config.clone(), stop.clone());
        self.node = Some((tokio::spawn(run), stop));
    }

    /// Stops the node as a user does.
    pub async fn stop_node(&mut self) {
        if let Some((task, stop)) = self.node.take() {
            stop.cancel();
            task.await.expect("no panic").expect("a node that stopped well");
        }
    }

    /// Stops all.
    pub async fn stop(mut self) {
        self.stop_node().await;
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates an object from JSON.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        self.api::<K>().create(&PostParams::default(), &object).await.expect("created")
    }

    /// Waits until an object is as wanted.
    pub async fn until<K>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let last = std::sync::Mutex::new(None);
        let api = self.api::<K>();
        let waiting = Box::pin(kube::runtime::wait::await_condition(api, name, |object: Option<&K>| {
            *last.lock().expect("a lock") = object.cloned();
            object.is_some_and(&wanted)
        }));
        match tokio::time::timeout(Duration::from_secs(120), waiting).await {
            Ok(found) => found.expect("watched").expect("an object"),
            Err(_) => panic!(
                "{name} did not come as wanted; last: {:#?}\nevents: {:#?}",
                last.lock().expect("a lock"),
                self.events().await
            ),
        }
    }

    /// Waits until an object is gone.
    pub async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + 'static,
    {
        let api = self.api::<K>();
        let waiting = kube::runtime::wait::await_condition(api, name, |object: Option<&K>| object.is_none());
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("gone in time").expect("watched");
    }

    /// Waits for a phase of a pod.
    pub async fn until_phase(&self, name: &str, phase: &str) -> Pod {
        self.until(name, |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase))
            .await
    }

    /// A pod of one container that runs a shell script.
    pub fn shell(name: &str, script: &str, more: Value) -> Value {
        let mut pod = json!({
            "metadata": {"name": name},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "main", "image": IMAGE, "args": [script]}]},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            if key == "container" {
                for (key, value) in value.as_object().into_iter().flatten() {
                    pod["spec"]["containers"][0][key] = value.clone();
                }
            } else {
                pod["spec"][key] = value.clone();
            }
        }
        pod
    }

    /// Reads a container's log through the API server.
    pub async fn logs(&self, pod: &str, container: &str, previous: bool) -> String {
        let params = LogParams { container: Some(container.into()), previous, ..LogParams::default() };
        self.api::<Pod>().logs(pod, &params).await.expect("logs")
    }

    /// All events: reason and message.
    pub async fn events(&self) -> Vec<String> {
        let list = self.api::<Event>().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        list.into_iter()
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }

    /// Waits for an event.
    pub async fn until_event(&self, wanted: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let events = self.events().await;
            if events.iter().any(|event| event == wanted) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{wanted:?} is not in {events:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where the node keeps its files.
    pub fn data(&self) -> PathBuf {
        self.config.data_dir.clone()
    }
}

/// Waits until something holds that no API tells.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says whether any process has a word in its command line.
pub fn process_with(word: &str) -> bool {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.into_iter().any(|entry| {
        let line = std::fs::read(Path::new(&entry.path()).join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    })
}

/// Says whether containers get namespaces here: a plain user's do not.
pub async fn namespaces() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    node::kubelet::process::namespaces_work(dir.path()).await
}
