//! The controllers with their inventory and validation, as one process on a cluster and as a part of `forklift up`.

use std::sync::Arc;

use forklift_inventory::Inventory;
use tokio_util::sync::CancellationToken;

/// Options of `forklift controller`.
#[derive(clap::Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Address of the inventory's REST service
    #[arg(long, default_value = "0.0.0.0:8443", env = "INVENTORY_LISTEN")]
    pub inventory_listen: std::net::SocketAddr,
    /// Serving certificate of the inventory, PEM
    #[arg(long, env = "API_TLS_CERTIFICATE")]
    pub tls_certificate: std::path::PathBuf,
    /// Key of the serving certificate, PEM
    #[arg(long, env = "API_TLS_KEY")]
    pub tls_key: std::path::PathBuf,
}

/// Runs the controllers against the cluster that the environment names.
pub async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    use anyhow::Context;
    let client = kube::Client::try_default().await.context("cannot find a cluster: set KUBECONFIG, or run inside a pod")?;
    let read = |path: &std::path::Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let (cert, key) = (read(&args.tls_certificate)?, read(&args.tls_key)?);
    let inventory = Arc::new(Inventory::new());
    let shutdown = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind(args.inventory_listen).await.with_context(|| format!("cannot listen on {}", args.inventory_listen))?;
    let router = inventory_router(&client, inventory.clone());
    tokio::try_join!(
        crate::tls::serve(listener, &cert, &key, router, shutdown.clone()),
        start(client, inventory, shutdown.clone()),
        async {
            tokio::signal::ctrl_c().await?;
            shutdown.cancel();
            Ok(())
        },
    )?;
    Ok(())
}

/// Returns the inventory's REST service, which asks the cluster who may see what.
pub fn inventory_router(client: &kube::Client, inventory: Arc<Inventory>) -> axum::Router {
    todo_router(client, inventory)
}

/// Runs every reconciler until `shutdown`.
pub async fn start(client: kube::Client, inventory: Arc<Inventory>, shutdown: CancellationToken) -> anyhow::Result<()> {
    forklift_controllers::run(client, inventory, shutdown).await
}
