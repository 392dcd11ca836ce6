//! The controllers with their inventory and validation, as one process on a cluster and as a part of `forklift up`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forklift_api::Settings;
use forklift_controllers::rules::{self, Concerns};
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
    /// Folder with rules of your own, .rego files; read again when it changes
    #[arg(long, env = "VALIDATION_RULES")]
    pub rules: Option<PathBuf>,
    /// Folder in which the inventory is kept for the next start; without it, each start waits for the sources
    #[arg(long, env = "WORKING_DIR")]
    pub working_dir: Option<PathBuf>,
    /// ConfigMap with rules of your own, beside validation-service-config and forklift-validation-config
    #[arg(long, env = "VALIDATION_CONFIGMAP_NAME")]
    pub rules_config_map: Option<String>,
    /// Address of the validation service, which answers as OPA's data API does; without it only the inventory asks
    #[arg(long, env = "VALIDATION_LISTEN")]
    pub validation_listen: Option<SocketAddr>,
}

/// The controllers' parts, ready to run.
#[derive(Clone)]
pub struct Controller {
    client: kube::Client,
    registry: Registry,
    namespace: String,
    validator: Validator,
    rules: rules::Places,
}

/// Runs the controllers against the cluster that the environment names.
pub async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let config = kube::Config::infer().await.context("cannot find a cluster: set KUBECONFIG, or run inside a pod")?;
    let client = kube::Client::try_from(config.clone())?;
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let (cert, key) = (read(&args.tls_certificate)?, read(&args.tls_key)?);
    let places = rules::Places {
        namespace: args.namespace.clone(),
        config_map: args.rules_config_map.clone(),
        folder: args.rules.clone(),
    };
    let keep = args.working_dir.clone();
    let controller = Controller::new(client, Some(config), &args.namespace, places, keep);
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
    let validation = async {
        let Some(address) = args.validation_listen else { return Ok(()) };
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tls::serve(listener, &cert, &key, controller.validation_router(), shutdown.clone()).await
    };
    let controllers = controller.clone().run(shutdown.clone());
    tokio::try_join!(
        validation,
        tls::serve(listener, &cert, &key, router, shutdown.clone()),
        tls::serve(hooks, &cert, &key, webhooks, shutdown.clone()),
        controllers,
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
        rules: rules::Places,
        keep: Option<PathBuf>,
    ) -> Self {
        let validator = Validator::new();
        let mut inventory = Inventory::new(Some(Arc::new(Concerns(validator.clone()))));
        if let Some(folder) = keep {
            inventory = inventory.kept_in(folder);
        }
        let context =
            Context { client: client.clone(), config, namespace: namespace.into(), shared: Default::default() };
        let registry = Registry::new(inventory, context);
        Controller { client, registry, namespace: namespace.into(), validator, rules }
    }

    /// Returns the inventory's REST service and the certificates of sources; both ask the cluster who may see what.
    pub fn inventory_router(&self) -> axum::Router {
        let authorizer = Arc::new(ClusterAuthorizer::new(self.client.clone()));
        forklift_inventory::rest::router(self.registry.inventory().clone(), authorizer.clone())
            .merge(certificate::router(authorizer, CERTIFICATE))
    }

    /// Returns the validation service.
    pub fn validation_router(&self) -> axum::Router {
        forklift_validation::rest::router(self.validator.clone())
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
        // every replica serves an inventory, so every replica has the rules, whoever leads
        let inventory = self.registry.inventory().clone();
        let changed = move || inventory.revalidate();
        let following = shutdown.child_token();
        let rules = rules::follow(self.client.clone(), self.rules, self.validator, changed, following.clone());
        let controllers = async {
            let ended = forklift_controllers::run(self.client, config, shutdown).await;
            following.cancel();
            ended
        };
        let (ended, ()) = tokio::join!(controllers, rules);
        self.registry.inventory().save().await;
        self.registry.release().await;
        ended
    }
}
