//! Loads a vCenter's inventory and serves it as the program does, over plain HTTP on loopback: the one side of the
//! benches `inventory-get` and `inventory-list`. Prints one line of JSON when it is ready, and ends when its standard
//! input is closed.
//!
//! `inventory_serve URL USER`, the password in `LOAD_PASSWORD`.

use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_inventory::rest::{Open, router};
use forklift_inventory::{Inventory, ProviderEntry};
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
        return Err("usage: inventory_serve URL USER, the password in LOAD_PASSWORD".into());
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
    let inventory = Inventory::new(None);
    let object = json!({"metadata": {"uid": "u", "name": "vc", "namespace": "n"}});
    let entry = inventory.insert(ProviderEntry::collected(&SPEC, object));
    let cancel = CancellationToken::new();
    let collector = Box::new(Collect::new(Box::new(connect)));
    let run = tokio::spawn(collector.run(inventory.writer(&entry), cancel.clone()));
    entry.store().parity().wait_for(|loaded| *loaded).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"address": listener.local_addr()?.to_string()}));
    let serving = tokio::spawn(async move { axum::serve(listener, router(inventory, Arc::new(Open))).await });
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    serving.abort();
    cancel.cancel();
    run.await??;
    Ok(())
}
