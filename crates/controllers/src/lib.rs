//! The controllers: they observe the cluster and the sources, let `forklift_core` decide, apply what it decided, and
//! tell in the status what is going on.
//!
//! ```text
//!          watches ─► caches ─┐                      ┌─► apply (create, delete, power off …)
//! API server                  ├─► pass over an object ┤
//!          queues ─► reconciler┘   (observe, decide)  └─► one status write, events
//! ```
//! | object | reconciler | |
//! |---|---|---|
//! | Provider | [`provider`] | connection, collector, inventory |
//! | Host | [`host`] | credentials and address of a host that is reached directly |
//! | OVAProviderServer | [`ova_server`] | the pod that reads a folder of appliances |
//! | NetworkMap, StorageMap | [`map`] | both sides of each row exist |
//! | Hook | [`hook`] | it can be run |
//! | Plan | [`plan`] | checks, and the migration of its VMs |
//! | Migration | [`migration`] | mirrors the plan's run |
//! | Conversion | [`conversion`] | one pod that converts a guest |
//!
//! Beside them [`webhook`] answers the API server before it stores what users write, and [`certificate`] shows users the
//! certificate of a source.
//!
//! Everything durable is in Kubernetes objects: a controller that is killed anywhere goes on where it was.
pub mod caches;
pub mod certificate;
pub mod context;
pub mod conversion;
pub mod hook;
pub mod host;
pub mod map;
pub mod metrics;
pub mod migration;
pub mod ova_server;
pub mod plan;
pub mod ports;
pub mod provider;
mod registry;
pub mod rules;
pub mod shell;
pub mod tls;
pub mod webhook;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub use context::ControllerConfig;

use caches::{Caches, Gone, Works};
use context::Context;
use shell::queue::drive;

/// How long the first lists may take.
const FIRST_LISTS: Duration = Duration::from_secs(60);

/// Runs all controllers until `shutdown`. With leader election, waits for the lease first, and ends with an error when
/// it is lost: what acts must be the one that leads.
pub async fn run(client: Client, config: ControllerConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let stop = shutdown.child_token();
    let mut leadership = None;
    if let Some(leader) = config.leader.clone() {
        tracing::info!(lease = leader.name, identity = leader.identity, "waiting to lead");
        match shell::leader::acquire(client.clone(), &config.namespace, leader, &shutdown).await {
            Some(lease) => leadership = Some(lease),
            None => return Ok(()),
        }
    }
    let (queues, works) = caches::queues();
    let caches = caches::open(&client, &queues, &stop);
    let filled = tokio::select! {
        filled = caches.ready(FIRST_LISTS) => filled,
        () = shutdown.cancelled() => return Ok(()),
    };
    anyhow::ensure!(
        filled,
        "the API server did not list all kinds within {} s: are the custom resource definitions installed, and may this \
         service account list them?",
        FIRST_LISTS.as_secs()
    );
    let context = Arc::new(Context::new(client, config, caches.clone(), queues));
    plan::archive::sweep(&context);
    tracing::info!(namespace = context.config.namespace, "controllers run");

    let reconcilers = tokio::spawn(reconcilers(context.clone(), caches, works, stop.clone()));
    let lost = async {
        match &leadership {
            Some(lease) => lease.lost.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = lost => Err(anyhow::anyhow!("the leader lease was lost: another controller may be leading")),
    };
    stop.cancel();
    reconcilers.await.context("a reconciler stopped unexpectedly")?;
    result
}

async fn reconcilers(context: Arc<Context>, caches: Caches, works: Works, stop: CancellationToken) {
    let limit = u16::try_from(context.config.settings.max_concurrent_reconciles.get()).unwrap_or(u16::MAX);
    macro_rules! drive {
        ($store:ident, $reconcile:path) => {
            drive(caches.$store.clone(), works.$store, limit, context.clone(), stop.clone(), $reconcile)
        };
    }
    tokio::join!(
        drive!(providers, provider::reconcile),
        drive!(servers, ova_server::reconcile),
        drive!(hosts, host::reconcile),
        drive!(network_maps, map::reconcile_network),
        drive!(storage_maps, map::reconcile_storage),
        drive!(hooks, hook::reconcile),
        drive!(plans, plan::reconcile),
        drive!(migrations, migration::reconcile),
        drive!(conversions, conversion::reconcile),
        clean_up(context.clone(), works.gone, stop.clone()),
        metrics::refresh(context.clone(), stop.clone()),
    );
}

/// Looks after what is gone: collectors of providers, objects of plans.
async fn clean_up(
    context: Arc<Context>,
    mut gone: tokio::sync::mpsc::UnboundedReceiver<Gone>,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = gone.recv() => next,
        };
        match next {
            None => return,
            Some(Gone::Provider(provider)) => provider::forget(&context, &provider),
            Some(Gone::Host(host)) => host::forget(&context, &host),
            Some(Gone::Plan(plan)) => {
                let context = context.clone();
                tokio::spawn(async move { plan::archive::remove_orphans(&context, &plan).await });
            }
        }
    }
}
