//! The controllers with their inventory and validation, as one process on a cluster and as a part of `forklift up`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forklift_api::Settings;
use forklift_controllers::rules::Concerns;
use forklift_controllers::{ControllerConfig, certificate, tls, webhook};
use forklift_inventory::Inventory;
use forklift_providers::openshift::auth::ClusterAuthorizer;
use forklift_providers::{Context, Registry};
use forklift_validation::Validator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a server may take to show its certificate.
const CERTIFICATE: Duration = Duration::from_secs(10);

/// Options of `forklift controller`.
#[derive(clap::Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Address of the inventory's REST service
    #[arg(long, default_value = "0.0.0.0:8443", env = "INVENTORY_LISTEN")]
    pub inventory_listen: SocketAddr,
    /// Serving certificate of the inventory, PEM
    #[arg(long, env = "API_TLS_CERTIFICATE")]
    pub tls_certificate: PathBuf,
    /// Key of the serving certificate, PEM
    #[arg(long, env = "API_TLS_KEY")]
    pub tls_key: PathBuf,
    /// Address of the admission webhooks
    #[arg(long, default_value = "0.0.0.0:9443", env = "WEBHOOK_LISTEN")]
    pub webhook_listen: SocketAddr,
    /// Register the webhooks at this service; without it, whoever installs the product does
    #[arg(long, env = "WEBHOOK_SERVICE")]
    pub webhook_service: Option<String>,
    /// Authority that the serving certificate is of, PEM; for the registration of the webhooks
    #[arg(long, env = "WEBHOOK_CA", requires = "webhook_service")]
    pub webhook_ca: Option<PathBuf>,
    /// Namespace of the product
    #[arg(long, default_value = forklift_api::DEFAULT_NAMESPACE, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Folder with rules of your own, .rego files
    #[arg(long, env = "VALIDATION_RULES")]
    pub rules: Option<PathBuf>,
    /// Folder in which the inventory is kept for the next start; without it, each start waits for the sources
    #[arg(long, env = "WORKING_DIR")]
    pub working_dir: Option<PathBuf>,
}

/// The controllers' parts, ready to run.
pub struct Controller {
    client: kube::Client,
    registry: Registry,
    namespace: String,
}

/// Runs the controllers against the cluster that the environment names.
pub async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let config = kube::Config::infer().await.context("cannot find a cluster: set KUBECONFIG, or run inside a pod")?;
    let client = kube::Client::try_from(config.clone())?;
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let (cert, key) = (read(&args.tls_certificate)?, read(&args.tls_key)?);
    let keep = args.working_dir.clone();
    let controller = Controller::new(client, Some(config), &args.namespace, args.rules.as_deref(), keep);
    let shutdown = CancellationToken::new();
    let listener = TcpListener::bind(args.inventory_listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.inventory_listen))?;
    let hooks = TcpListener::bind(args.webhook_listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.webhook_listen))?;
    let (router, webhooks) = (controller.inventory_router(), controller.webhook_router());
    if let (Some(service), Some(ca)) = (&args.webhook_service, &args.webhook_ca) {
        let reach = webhook::Reach::Service { namespace: args.namespace.clone(), name: service.clone() };
        webhook::register(&controller.client, &reach, &read(ca)?).await?;
    }
    tokio::try_join!(
        tls::serve(listener, &cert, &key, router, shutdown.clone()),
        tls::serve(hooks, &cert, &key, webhooks, shutdown.clone()),
        controller.run(shutdown.clone()),
        async {
            tokio::signal::ctrl_c().await?;
            shutdown.cancel();
            Ok(())
        }
    )?;
    Ok(())
}

impl Controller {
    /// Puts the parts together; `config` lets the inventory act with its callers' own rights, `keep` is where it
    /// keeps its records for the next start.
    pub fn new(
        client: kube::Client,
        config: Option<kube::Config>,
        namespace: &str,
        rules: Option<&Path>,
        keep: Option<PathBuf>,
    ) -> Self {
        let validator = rules.map_or_else(Validator::new, Validator::with_user_rules);
        for error in validator.rule_errors() {
            tracing::error!(%error, "a rule file is left out");
        }
        let mut inventory = Inventory::new(Some(Arc::new(Concerns(validator))));
        if let Some(folder) = keep {
            inventory = inventory.kept_in(folder);
        }
        let context =
            Context { client: client.clone(), config, namespace: namespace.into(), shared: Default::default() };
        Controller { client, registry: Registry::new(inventory, context), namespace: namespace.into() }
    }

    /// Returns the inventory's REST service and the certificates of sources; both ask the cluster who may see what.
    pub fn inventory_router(&self) -> axum::Router {
        let authorizer = Arc::new(ClusterAuthorizer::new(self.client.clone()));
        forklift_inventory::rest::router(self.registry.inventory().clone(), authorizer.clone())
            .merge(certificate::router(authorizer, CERTIFICATE))
    }

    /// Returns the admission webhooks.
    pub fn webhook_router(&self) -> axum::Router {
        let providers = Arc::new(self.registry.clone());
        webhook::router(webhook::Webhooks { client: self.client.clone(), providers })
    }

    /// Runs every reconciler until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let settings = Settings::from_env().context("cannot read the settings from the environment")?;
        let config = ControllerConfig::new(self.namespace, Arc::new(self.registry.clone()), settings);
        let ended = forklift_controllers::run(self.client, config, shutdown).await;
        self.registry.inventory().save().await;
        self.registry.release().await;
        ended
    }
}
