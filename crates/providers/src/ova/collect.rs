//! Keeps the inventory equal to the folder.

use std::time::Duration;

use async_trait::async_trait;
use forklift_inventory::{Ask, Writer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::catalog::Snapshot;
use super::{Client, model};
use crate::{Collector, ConnectError};

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The collector of an OVA provider.
#[derive(Debug)]
pub struct Collect {
    client: Client,
}

impl Collect {
    /// Returns a collector that reads from a server.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Loads the folder and waits for its next change, or for somebody who wants it read anew.
    async fn pass(&self, store: &Writer, asks: &mut UnboundedReceiver<Ask>) -> Result<(), ConnectError> {
        let mut snapshot = self.client.snapshot().await?;
        write(store, &snapshot);
        loop {
            tokio::select! {
                changed = self.client.changed(snapshot.generation) => if changed? != snapshot.generation {
                    return Ok(());
                },
                Some(ask) = asks.recv() => {
                    let Ask::Refresh(refresh) = ask else {
                        ask.refuse("a folder of appliances has nothing else".to_owned());
                        continue;
                    };
                    match self.client.snapshot().await {
                        Ok(now) => {
                            write(store, &now);
                            snapshot = now;
                            refresh.answer(Ok(()));
                        }
                        Err(error) => {
                            refresh.answer(Err(error.to_string()));
                            return Err(error);
                        }
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Collector for Collect {
    async fn run(self: Box<Self>, store: Writer, cancel: CancellationToken) -> Result<(), ConnectError> {
        let mut asks = store.asks();
        loop {
            let ended = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                ended = self.pass(&store, &mut asks) => ended,
            };
            if let Err(error) = ended {
                tracing::warn!(provider = store.provider_uid(), %error, "the inventory is not refreshed");
                store.failed(&error.to_string());
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }
}

fn write(store: &Writer, snapshot: &Snapshot) {
    let uid = store.provider_uid().to_owned();
    let (disks, networks) = (snapshot.disks(), snapshot.networks());
    store.replace("networks", networks.iter().map(|n| model::network(&uid, n)).collect());
    store.replace("disks", disks.iter().map(|d| model::disk(&uid, d)).collect());
    store.replace("storages", disks.iter().map(|d| model::storage(&uid, d)).collect());
    store.replace("vms", snapshot.vms.iter().map(model::vm).collect());
    store.replace("appliances", snapshot.appliances.iter().map(|a| model::appliance(&uid, a)).collect());
    store.loaded();
}
