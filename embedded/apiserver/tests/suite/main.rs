//! The server over real TLS, as its clients see it: raw HTTP, kube-rs, kubectl; and what a restart leaves.

#![expect(missing_docs, reason = "tests")]

mod access;
mod custom;
mod durability;
mod garbage;
mod kubectl;
mod logs;
mod objects;
mod operation;
mod quotas;
mod robustness;
mod snapshots;
mod tunnels;
mod watches;

use std::time::{Duration, Instant};

use serde_json::Value;

/// A server in its own directory, and a client for it.
pub struct Fixture {
    pub server: apiserver::Handle,
    pub http: reqwest::Client,
    pub dir: tempfile::TempDir,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut apiserver::Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = apiserver::Config::new(dir.path());
        change(&mut config);
        let server = apiserver::start(config).await.unwrap();
        let http = http_client(&server);
        Self { server, http, dir }
    }

    pub async fn send(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> (u16, Value) {
        self.send_as(self.server.admin_token(), method, path, kind, body).await
    }

    pub async fn send_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut request =
            self.http.request(method.parse().unwrap(), format!("{}{path}", self.server.url())).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let code = response.status().as_u16();
        let text = response.text().await.unwrap();
        (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, "application/json", Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("PUT", path, "application/json", Some(body)).await
    }

    pub async fn apply(&self, path: &str, manager: &str, body: &Value) -> (u16, Value) {
        self.send("PATCH", &format!("{path}?fieldManager={manager}"), "application/apply-patch+yaml", Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        self.send("DELETE", path, "application/json", None).await
    }

    pub fn client(&self) -> kube::Client {
        let config = kube::config::Kubeconfig::from_yaml(&self.server.kubeconfig()).unwrap();
        let config = futures::executor::block_on(kube::Config::from_custom_kubeconfig(
            config,
            &kube::config::KubeConfigOptions::default(),
        ))
        .unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// Reads the URL until the text is in the answer.
    pub async fn until_text(&self, url: &str, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let response = self.http.get(url).bearer_auth(self.server.admin_token()).send().await.unwrap();
            let text = response.text().await.unwrap();
            if text.contains(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "no {wanted:?} in {text}");
            tokio::task::yield_now().await;
        }
    }

    /// Looks until the condition holds.
    pub async fn until(&self, path: &str, what: &str, holds: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (code, value) = self.get(path).await;
            if holds(code, &value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{what}: still {code} {value}");
            tokio::task::yield_now().await;
        }
    }
}

pub fn http_client(server: &apiserver::Handle) -> reqwest::Client {
    http_client_for(server.ca_pem())
}

pub fn http_client_for(ca: &str) -> reqwest::Client {
    // several tests of one process do this; the first one wins
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap()
}
