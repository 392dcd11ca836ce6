//! Loads a vCenter's inventory as the program does and keeps it: the one side of the benches `inventory-load` and
//! `inventory-memory`. Prints one line of JSON when everything is there, goes on following changes, and ends when its
//! standard input is closed.
//!
//! `inventory_load URL USER`, the password in `LOAD_PASSWORD`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forklift_inventory::{ProviderEntry, Writer};
use forklift_providers::Collector;
use forklift_providers::vsphere::{Collect, SPEC, vim};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(user)) = (args.next(), args.next()) else {
        return Err("usage: inventory_load URL USER, the password in LOAD_PASSWORD".into());
    };
    let secret = BTreeMap::from([
        ("user".to_owned(), user.into_bytes()),
        ("password".to_owned(), std::env::var("LOAD_PASSWORD")?.into_bytes()),
        ("insecureSkipVerify".to_owned(), b"true".to_vec()),
    ]);
    let endpoint = vim::Endpoint::from_secret(&url, &secret)?;
    let connect = move || -> BoxFuture<'static, Result<vim::Client, vim::VimError>> {
        let endpoint = endpoint.clone();
        Box::pin(async move { vim::Client::connect(&endpoint).await })
    };
    let entry = ProviderEntry::collected(&SPEC, json!({"metadata": {"uid": "u", "name": "vc", "namespace": "n"}}));
    let (store, cancel) = (entry.store().clone(), CancellationToken::new());
    let begin = Instant::now();
    let collector = Box::new(Collect::new(Box::new(connect)));
    let run = tokio::spawn(collector.run(Writer::new(Arc::clone(&store), None), cancel.clone()));
    store.parity().wait_for(|loaded| *loaded).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let objects: usize = SPEC.kinds.iter().map(|kind| store.count(kind.name)).sum();
    // what the last page needed is given back in the background
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("{}", json!({"seconds": seconds, "objects": objects, "rss": status("VmRSS:"), "peak": status("VmHWM:")}));
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    cancel.cancel();
    run.await??;
    Ok(())
}

/// Returns a line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0) * 1024
}
