//! Loads an API server and prints how long it took in seconds, for benches: the same program against any server.
//!
//! `load URL CA-FILE SCENARIO NUMBERS…` with the bearer token in `LOAD_TOKEN`. Scenarios:
//! - `creates N WRITERS`: N config maps of 1 KiB in a new namespace;
//! - `fill NAME N WRITERS`: the same in the namespace NAME, which stays for `list`; prints nothing of interest;
//! - `list NAME N LIMIT`: reads N config maps whole, in chunks of LIMIT when that is not 0;
//! - `watch WATCHERS N WRITERS`: N config maps are made while so many watchers look; until all have seen all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

#[derive(Clone)]
struct Load {
    url: String,
    token: String,
    http: reqwest::Client,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ca, scenario, rest @ ..] = arguments.as_slice() else {
        bail!("usage: load URL CA-FILE SCENARIO NUMBERS…, the token in LOAD_TOKEN");
    };
    let load = Load::new(url, Path::new(ca))?;
    let number = |n: usize| -> Result<usize> {
        rest.get(n).with_context(|| format!("{scenario} needs more numbers"))?.parse().context("not a number")
    };
    let own = format!("load-{}-{}", std::process::id(), jiff::Timestamp::now().as_millisecond());
    let seconds = match scenario.as_str() {
        "creates" => {
            load.namespace(&own).await?;
            load.create(&own, number(0)?, number(1)?).await?
        }
        "fill" => {
            let name = rest.first().context("fill needs a namespace")?;
            load.namespace(name).await?;
            load.create(name, number(1)?, number(2)?).await?
        }
        "list" => load.list(rest.first().context("list needs a namespace")?, number(1)?, number(2)?).await?,
        "watch" => {
            load.namespace(&own).await?;
            load.watch(&own, number(0)?, number(1)?, number(2)?).await?
        }
        other => bail!("unknown scenario {other}"),
    };
    println!("{seconds:.6}");
    Ok(())
}

impl Load {
    fn new(url: &str, ca: &Path) -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok().context("a TLS provider is set already")?;
        let ca =
            reqwest::Certificate::from_pem(&std::fs::read(ca).context("cannot read the authority's certificate")?)?;
        let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().tcp_nodelay(true).build()?;
        let token = std::env::var("LOAD_TOKEN").context("LOAD_TOKEN is not set")?;
        Ok(Self { url: url.trim_end_matches('/').to_string(), token, http })
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        let response = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await?;
        ensure!(response.status() == 200, "GET {path}: {}", response.status());
        Ok(response)
    }

    async fn post(&self, path: &str, body: String) -> Result<()> {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let response = request.header("content-type", "application/json").body(body).send().await?;
        let code = response.status();
        let text = response.bytes().await?;
        ensure!(code == 201, "POST {path}: {code} {}", String::from_utf8_lossy(&text));
        Ok(())
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        self.post("/api/v1/namespaces", json!({"metadata": {"name": name}}).to_string()).await
    }

    async fn create(&self, namespace: &str, count: usize, writers: usize) -> Result<f64> {
        let next = Arc::new(AtomicUsize::new(0));
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let fill = "x".repeat(1024);
        let begin = Instant::now();
        let writer = || {
            let (load, next, path, fill) = (self.clone(), next.clone(), path.clone(), fill.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<(), anyhow::Error>(());
                    }
                    let name = format!("load-{number:06}");
                    let labels = json!({"app": "load", "shard": (number % 10).to_string()});
                    let object = json!({
                        "apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": name, "labels": labels}, "data": {"content": fill},
                    });
                    load.post(&path, object.to_string()).await?;
                }
            })
        };
        let tasks: Vec<_> = (0..writers.max(1)).map(|_| writer()).collect();
        for task in tasks {
            task.await??;
        }
        Ok(begin.elapsed().as_secs_f64())
    }

    async fn list(&self, namespace: &str, count: usize, limit: usize) -> Result<f64> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps?limit={limit}");
        let begin = Instant::now();
        let (mut seen, mut token) = (0, String::new());
        loop {
            let body = self.get(&format!("{path}&continue={token}")).await?.bytes().await?;
            // names occur once in each object; a parser would take longer than a server
            seen += memchr_count(&body, b"\"name\":\"load-");
            token = continue_token(&body);
            if token.is_empty() {
                break;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        ensure!(seen == count, "{seen} objects were listed instead of {count}");
        Ok(seconds)
    }

    async fn watch(&self, namespace: &str, watchers: usize, count: usize, writers: usize) -> Result<f64> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let list: Value = serde_json::from_slice(&self.get(&path).await?.bytes().await?)?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut tasks = Vec::new();
        for _ in 0..watchers {
            let mut response = self.get(&format!("{path}?watch=1&resourceVersion={version}")).await?;
            let (load, path) = (self.clone(), path.clone());
            tasks.push(tokio::spawn(async move {
                let (mut seen, mut line, mut last) = (0, Vec::new(), Vec::new());
                loop {
                    while let Some(chunk) = response.chunk().await? {
                        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                            line.extend_from_slice(piece);
                            if piece.ends_with(b"\n") {
                                seen += 1;
                                std::mem::swap(&mut line, &mut last);
                                line.clear();
                            }
                        }
                        if seen >= count {
                            return Ok::<(), anyhow::Error>(());
                        }
                    }
                    // a server may end the watch of a slow reader, who then goes on where he was, as informers do
                    let event: Value = serde_json::from_slice(&last).context("a watch ended before its first event")?;
                    let at = event["object"]["metadata"]["resourceVersion"]
                        .as_str()
                        .context("an event without a version")?;
                    ensure!(event["type"] != "ERROR", "a watch ended with {event}");
                    line.clear();
                    response = load.get(&format!("{path}?watch=1&resourceVersion={at}")).await?;
                }
            }));
        }
        let begin = Instant::now();
        self.create(namespace, count, writers).await?;
        for task in tasks {
            task.await??;
        }
        Ok(begin.elapsed().as_secs_f64())
    }
}

fn memchr_count(text: &[u8], wanted: &[u8]) -> usize {
    let Some(first) = wanted.first() else { return 0 };
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| b == first) {
        let found = rest.get(at..).unwrap_or_default();
        count += usize::from(found.starts_with(wanted));
        rest = found.get(1..).unwrap_or_default();
    }
    count
}

/// `metadata.continue` of a list, looked for near its ends.
fn continue_token(body: &[u8]) -> String {
    let near = |part: &[u8]| -> Option<String> {
        let text = String::from_utf8_lossy(part).into_owned();
        let (_, rest) = text.split_once("\"continue\":\"")?;
        Some(rest.split('"').next()?.to_string())
    };
    let head = body.get(..body.len().min(1000)).unwrap_or_default();
    let tail = body.get(body.len().saturating_sub(1000)..).unwrap_or_default();
    near(head).or_else(|| near(tail)).unwrap_or_default()
}
