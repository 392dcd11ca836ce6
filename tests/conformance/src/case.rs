//! A case: its name, what it does, and the client it does it with.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::server::Server;
use crate::watch::Watch;

/// How long a case waits for something that happens by itself.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a case ends with.
pub type Outcome = Result<()>;

type Run = Box<dyn Fn(Case) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// One case: a name in words and what it does.
pub struct Test {
    /// What is shown, in words; unique in its chapter.
    pub name: &'static str,
    /// Does it.
    pub run: Run,
}

/// The cases of one chapter of the API conventions.
pub struct Chapter {
    /// The chapter's name, as in tables and filters.
    pub name: &'static str,
    /// Its cases.
    pub cases: Vec<Test>,
}

/// A case from its name and an async block: `case("…", |c| async move { …; Ok(()) })`.
pub fn case<F, R>(name: &'static str, run: F) -> Test
where
    F: Fn(Case) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    Test { name, run: Box::new(move |c| Box::pin(run(c))) }
}

/// What a case works with: a raw HTTP client for the server, and a namespace of its own.
#[derive(Clone)]
pub struct Case {
    server: Arc<Server>,
    namespace: String,
}

/// Numbers names, so that no two cases meet.
static COUNT: AtomicU64 = AtomicU64::new(0);

impl Case {
    /// Makes the case's namespace.
    pub async fn open(server: Arc<Server>) -> Result<Self> {
        // a server that is not of this run keeps the namespaces of the run before
        let namespace = format!("case-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let case = Self { server, namespace };
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.namespace}});
        case.post("/api/v1/namespaces", &body).await?.status(201).context("cannot make the case's namespace")?;
        Ok(case)
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The case's own namespace.
    pub fn ns(&self) -> &str {
        &self.namespace
    }

    /// A name that no other case uses, for objects outside of namespaces.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}-{}-{}", self.namespace, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Path of a core resource in the case's namespace: `core("pods/a")`.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// Path of a group's resource in the case's namespace: `group("apps/v1", "deployments")`.
    pub fn group(&self, version: &str, rest: &str) -> String {
        format!("/apis/{version}/namespaces/{}/{rest}", self.namespace)
    }

    /// A request of any form; `path` may have a query.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request {
            server: self.server.clone(),
            method: method.to_string(),
            path: path.to_string(),
            headers: Vec::new(),
            body: None,
            token: Some(self.server.token().to_string()),
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path).send().await
    }

    /// GET with an Accept header.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        self.request("GET", path).header("accept", accept).send().await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.request("POST", path).json(body).send().await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.request("PUT", path).json(body).send().await
    }

    /// PATCH with `application/<kind>`: `json-patch+json`, `merge-patch+json`, `strategic-merge-patch+json`,
    /// `apply-patch+yaml`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Result<Answer> {
        self.request("PATCH", path).body(&format!("application/{kind}"), body.to_string()).send().await
    }

    /// PATCH with `application/merge-patch+json`.
    pub async fn merge(&self, path: &str, body: &Value) -> Result<Answer> {
        self.patch(path, "merge-patch+json", body).await
    }

    /// Server-side apply under a manager's name.
    pub async fn apply(&self, path: &str, manager: &str, body: &Value) -> Result<Answer> {
        self.patch(&format!("{path}?fieldManager={manager}"), "apply-patch+yaml", body).await
    }

    /// DELETE without a body.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.request("DELETE", path).send().await
    }

    /// DELETE with options.
    pub async fn delete_with(&self, path: &str, options: &Value) -> Result<Answer> {
        self.request("DELETE", path).json(options).send().await
    }

    /// POST that has to make the object, which is returned.
    pub async fn make(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post(path, body).await?;
        answer.status(201)?;
        Ok(answer.json)
    }

    /// Makes a config map with data in the case's namespace and returns it.
    pub async fn config_map(&self, name: &str, data: Value) -> Result<Value> {
        self.make(&self.core("configmaps"), &config_map(name, data)).await
    }

    /// Makes a pod in the case's namespace, once the namespace's service account is there.
    pub async fn pod(&self, body: &Value) -> Result<Value> {
        let account = self.core("serviceaccounts/default");
        self.until(&account, "the default service account is there", |a| a.status == 200).await?;
        self.make(&self.core("pods"), body).await
    }

    /// Opens a watch; `path` has the query without `watch`.
    pub async fn watch(&self, path: &str) -> Result<Watch> {
        self.watch_as(path, "application/json").await
    }

    /// Opens a watch with an Accept header.
    pub async fn watch_as(&self, path: &str, accept: &str) -> Result<Watch> {
        let join = if path.contains('?') { '&' } else { '?' };
        let request = self.request("GET", &format!("{path}{join}watch=true")).header("accept", accept);
        let shown = request.shown();
        let response = request.open().await?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            anyhow::bail!("the watch did not open\n    request: {shown}\n    answer:  {} {text}", status.as_u16());
        }
        Ok(Watch::new(shown, response))
    }

    /// Reads the path until the condition holds of the answer, which is returned.
    pub async fn until(&self, path: &str, what: &str, holds: impl Fn(&Answer) -> bool) -> Result<Answer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await?;
            if holds(&answer) {
                return Ok(answer);
            }
            ensure!(Instant::now() < deadline, "{what}: not so within {PATIENCE:?}\n{}", answer.shown());
            // two servers, eight cases and two cores: looking 20 times a second is enough
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads the path until it is not found.
    pub async fn until_gone(&self, path: &str) -> Result<()> {
        self.until(path, "the object is gone", |a| a.status == 404).await.map(|_| ())
    }
}

/// A config map's JSON.
pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A pod's JSON with one container and without a service account token.
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "example/main:1"}],
        },
    })
}

/// A deployment's JSON with one container; its label is `app: <name>`.
pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "example/main:1"}]},
            },
        },
    })
}

/// A request that is being put together.
pub struct Request {
    server: Arc<Server>,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<bytes::Bytes>,
    token: Option<String>,
}

impl Request {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    /// Takes a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Takes a body of any content type.
    pub fn body(mut self, content_type: &str, body: impl Into<bytes::Bytes>) -> Self {
        self.body = Some(body.into());
        self.header("content-type", content_type)
    }

    /// Uses another bearer token; None sends no token.
    pub fn token(mut self, token: Option<&str>) -> Self {
        self.token = token.map(String::from);
        self
    }

    fn shown(&self) -> String {
        let mut text = format!("{} {}", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!(" [{name}: {value}]"));
        }
        if let Some(body) = &self.body {
            text.push(' ');
            text.extend(String::from_utf8_lossy(body).chars().take(1500));
        }
        text
    }

    /// Sends and returns the response with its body unread.
    pub async fn open(self) -> Result<reqwest::Response> {
        let shown = self.shown();
        let url = format!("{}{}", self.server.url(), self.path);
        let mut request = self.server.http().request(self.method.parse()?, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = self.body {
            request = request.body(body);
        }
        request.send().await.with_context(|| format!("no answer to {shown}"))
    }

    /// Sends and reads the whole answer.
    pub async fn send(self) -> Result<Answer> {
        let request = self.shown();
        let response = self.open().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.with_context(|| format!("the answer broke off: {request}"))?;
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { request, status, headers, bytes, json })
    }
}
