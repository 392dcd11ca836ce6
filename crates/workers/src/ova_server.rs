//! `worker ova-server`: tells the collector over HTTP what a folder of appliances holds.
//!
//! The folder is scanned every few seconds; only what changed is opened again.
//! Answers are upstream's; [`forklift_providers::ova::wire`] lists the paths.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `CATALOG_PATH` | the folder | `/ova` |
//! | `POD_IP`, `PORT` | where to listen | `0.0.0.0`, `8080` |
//! | `OVA_RESCAN_SECONDS` | time between scans | `10` |
//! | `OVA_SETTLE_SECONDS` | how long a file has to be unchanged before it is opened | `5` |

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use forklift_providers::ova::catalog::{Catalog, Snapshot};
use forklift_providers::ova::wire::{ApplianceState, GENERATION_HEADER, Generation};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How long a `/watch` waits before it answers that nothing changed.
const WATCH: Duration = Duration::from_secs(25);
/// The time between scans while a file is being copied.
const COPYING: Duration = Duration::from_secs(1);

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder.
    pub catalog: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Time between scans.
    pub rescan: Duration,
    /// How long a file has to be unchanged before it is opened.
    pub settle: Duration,
}

impl Settings {
    /// Reads the settings from variables.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let seconds = |name: &str, default: u64| match variable(name) {
            None => Ok(Duration::from_secs(default)),
            Some(text) => match text.trim().parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
                Some(duration) => Ok(duration),
                None => Err(anyhow::anyhow!("{name} is {text:?}, which is not a number of seconds")),
            },
        };
        let given = |name: &str, default: &str| variable(name).filter(|v| !v.is_empty()).unwrap_or(default.to_owned());
        let (address, port) = (given("POD_IP", "0.0.0.0"), given("PORT", "8080"));
        let address: IpAddr =
            address.parse().map_err(|_| anyhow::anyhow!("POD_IP is {address:?}, which is not an address"))?;
        let port: u16 = port.parse().map_err(|_| anyhow::anyhow!("PORT is {port:?}, which is not a port"))?;
        Ok(Self {
            catalog: given("CATALOG_PATH", "/ova").into(),
            listen: SocketAddr::new(address, port),
            rescan: seconds("OVA_RESCAN_SECONDS", 10)?,
            settle: seconds("OVA_SETTLE_SECONDS", 5)?,
        })
    }
}

/// Runs the server until it is told to end.
pub async fn run() -> ExitCode {
    let ended = async {
        let settings = Settings::read(|name| std::env::var(name).ok())?;
        let listener = tokio::net::TcpListener::bind(settings.listen).await;
        let listener = listener.map_err(|e| anyhow::anyhow!("cannot listen on {}: {e}", settings.listen))?;
        tracing::info!(catalog = %settings.catalog.display(), listen = %settings.listen, "serving");
        serve(listener, settings, crate::terminated()).await
    };
    match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves on a listener until `end`.
pub async fn serve(
    listener: tokio::net::TcpListener,
    settings: Settings,
    end: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (sender, state) = watch::channel(Folder::Starting);
    let scanning = tokio::spawn(scan(settings, sender));
    let service = axum::serve(listener, router(state)).with_graceful_shutdown(end);
    let ended = service.await;
    scanning.abort();
    Ok(ended?)
}

/// What is known of the folder.
#[derive(Clone, Debug)]
enum Folder {
    /// The first scan is not done.
    Starting,
    /// What it holds.
    Known(Arc<Snapshot>),
    /// Why it cannot be read.
    Unreadable(String),
}

async fn scan(settings: Settings, sender: watch::Sender<Folder>) {
    let mut catalog = Catalog::new(&settings.catalog, settings.settle);
    loop {
        // opening archives on a slow share takes long: not on a thread that answers requests
        let scanned = tokio::task::spawn_blocking(move || {
            let result = catalog.scan().cloned();
            (catalog, result)
        });
        let Ok((returned, result)) = scanned.await else {
            return;
        };
        catalog = returned;
        let next = match result {
            Ok(snapshot) => Folder::Known(Arc::new(snapshot)),
            Err(error) => Folder::Unreadable(unreadable(&settings.catalog, &error)),
        };
        let copying =
            matches!(&next, Folder::Known(s) if s.appliances.iter().any(|a| a.state == ApplianceState::Copying));
        sender.send_if_modified(|state| {
            let same = match (&*state, &next) {
                (Folder::Known(old), Folder::Known(new)) => old.generation == new.generation,
                (Folder::Unreadable(old), Folder::Unreadable(new)) => old == new,
                _ => false,
            };
            if !same {
                tell(&next);
                *state = next;
            }
            !same
        });
        let pause = if copying { settings.rescan.min(COPYING) } else { settings.rescan };
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn unreadable(catalog: &Path, error: &std::io::Error) -> String {
    format!("the folder {} cannot be read: {error}", catalog.display())
}

fn tell(state: &Folder) {
    match state {
        Folder::Starting => {}
        Folder::Unreadable(reason) => tracing::error!("{reason}"),
        Folder::Known(snapshot) => {
            tracing::info!(appliances = snapshot.appliances.len(), vms = snapshot.vms.len(), "scanned");
            for appliance in snapshot.appliances.iter().filter(|a| a.state == ApplianceState::Broken) {
                tracing::warn!(appliance = appliance.path, reason = appliance.error, "cannot be used");
            }
        }
    }
}

fn router(state: watch::Receiver<Folder>) -> Router {
    Router::new()
        .route("/vms", get(async |s: State<watch::Receiver<Folder>>| list(s, |x| x.vms.clone()).await))
        .route("/disks", get(async |s: State<watch::Receiver<Folder>>| list(s, Snapshot::disks).await))
        .route("/networks", get(async |s: State<watch::Receiver<Folder>>| list(s, Snapshot::networks).await))
        .route("/appliances", get(async |s: State<watch::Receiver<Folder>>| list(s, |x| x.appliances.clone()).await))
        .route("/test_connection", get(async |s: State<watch::Receiver<Folder>>| list(s, |_| "").await))
        .route("/watch", get(changes))
        .with_state(state)
}

/// Waits for the first scan, then answers with a part of what is known.
async fn list<T: Serialize>(
    State(mut state): State<watch::Receiver<Folder>>,
    part: impl Fn(&Snapshot) -> T,
) -> Response {
    let known = match state.wait_for(|s| !matches!(s, Folder::Starting)).await {
        Ok(state) => state.clone(),
        Err(_) => Folder::Unreadable("the server is ending".to_owned()),
    };
    match known {
        Folder::Known(snapshot) => {
            ([(GENERATION_HEADER, snapshot.generation.to_string())], Json(part(&snapshot))).into_response()
        }
        Folder::Unreadable(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
        Folder::Starting => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[derive(Deserialize)]
struct Since {
    since: Option<u64>,
}

/// Answers as soon as the generation is another, or after a while.
async fn changes(State(mut state): State<watch::Receiver<Folder>>, Query(query): Query<Since>) -> Response {
    let another = |s: &Folder| match s {
        Folder::Known(snapshot) => Some(snapshot.generation) != query.since,
        // a folder that cannot be read any more is news too
        Folder::Unreadable(_) => true,
        Folder::Starting => false,
    };
    let _ = tokio::time::timeout(WATCH, state.wait_for(another)).await;
    list(State(state), |snapshot| Generation { generation: snapshot.generation }).await
}

#[cfg(test)]
mod tests;
