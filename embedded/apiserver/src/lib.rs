//! A Kubernetes-compatible API server in a library: durable, on loopback, for one process tree.
//!
//! ```text
//!   TLS ─► authentication ─► authorization ─► handlers ─► store (SQLite journal, objects in memory)
//!                                               │  schema: prune, default, validate
//!                                               │  patch, apply: merge, managed fields
//!                                               └─ registry: built-in table + CRDs
//!   controllers inside: garbage collector, namespace deletion, CRD clean-up, service account defaults
//! ```
//! It knows Kubernetes and nothing of what is stored in it. README.md tells what is real and what is not.

mod admission;
mod aggregate;
mod apply;
mod audit;
mod auth;
mod cel;
mod compression;
mod controllers;
mod convert;
mod discovery;
mod error;
mod gate;
mod handlers;
mod health;
mod limits;
mod meta;
mod metrics;
mod openapi;
mod patch;
mod protobuf;
mod registry;
mod request;
mod resources;
mod schema;
mod selector;
mod server;
mod storage;
mod table;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;

/// The audit log's place and policy.
pub use audit::{AuditConfig, GroupResources, Level, Policy, Rule};
/// Who made a request; handlers behind [`Config::extra_routes`] find it in the request's extensions.
pub use auth::User;
/// The error type whose response is a `metav1.Status`, for handlers behind [`Config::extra_routes`].
pub use error::ApiError;
/// What clients may take.
pub use limits::Limits;

/// Snapshots of a store, whether its server runs or not, and stores made from them.
pub use storage::snapshot::{Snapshot, restore, snapshot};

/// What the server needs to know.
pub struct Config {
    /// Directory for the database, keys and tokens; made when absent.
    pub data_dir: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Token of the administrator; None takes the one kept in the data directory, made at first start.
    pub admin_token: Option<String>,
    /// Further tokens: token, user name, groups.
    pub tokens: Vec<(String, String, Vec<String>)>,
    /// Token shown to the kubelet endpoint when logs are fetched.
    pub kubelet_token: String,
    /// Names and addresses in the serving certificate beside localhost and the listening address.
    pub names: Vec<String>,
    /// Events kept per resource for watches.
    pub history: usize,
    /// Certificates of authorities (PEM) whose client certificates are accepted beside the server's own.
    pub client_ca: Option<String>,
    /// The audit log; None keeps none.
    pub audit: Option<AuditConfig>,
    /// What clients may take.
    pub limits: Limits,
    /// How long the server goes on serving after it said that it is not ready any more, for balancers before it.
    pub shutdown_delay: Duration,
    /// Longest wait for requests in flight at the end.
    pub grace: Duration,
    /// Handlers for paths that this server does not know, such as other groups' subresources. They run behind
    /// authentication and authorization; the user is in the request's extensions as [`User`].
    pub extra_routes: axum::Router,
}

impl Config {
    /// Defaults for a directory: loopback, free port, tokens made and kept.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_token: None,
            tokens: Vec::new(),
            kubelet_token: String::new(),
            names: Vec::new(),
            history: 1000,
            client_ca: None,
            audit: Some(AuditConfig::default()),
            limits: Limits::default(),
            shutdown_delay: Duration::ZERO,
            grace: Duration::from_secs(10),
            extra_routes: axum::Router::new(),
        }
    }
}

/// A running server.
pub struct Handle {
    server: Arc<server::Server>,
    address: SocketAddr,
    admin_token: String,
    authority: tls::Authority,
    shutdown_delay: Duration,
    task: tokio::task::JoinHandle<()>,
}

/// Starts the server; it is ready when this returns.
pub async fn start(config: Config) -> anyhow::Result<Handle> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let authority = tls::Authority::load(&config.data_dir)?;
    let admin_token = match config.admin_token.clone() {
        Some(token) => token,
        None => tls::keep(config.data_dir.join("admin.token"), || Ok(auth::random_token()))?,
    };
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let mut names =
        vec!["localhost".to_string(), "kubernetes".into(), "kubernetes.default.svc".into(), "127.0.0.1".into()];
    names.push(address.ip().to_string());
    names.extend(config.names.iter().cloned());
    names.sort();
    names.dedup();
    let (certificate, key) = serving_certificate(&config, &authority, &names)?;
    let client_authorities = format!("{}\n{}", authority.pem, config.client_ca.as_deref().unwrap_or_default());
    let tls = tls::server_config(&certificate, &key, &client_authorities)?;
    let shutdown_delay = config.shutdown_delay;
    let extra_routes = config.extra_routes.clone();
    let server = server::Server::open(config, &admin_token, &authority.pem, address)?;
    controllers::bootstrap(&server).await?;
    server.bootstrapped.store(true, Ordering::Relaxed);
    controllers::spawn(&server);
    let task = tokio::spawn(server::serve(server.clone(), listener, tls, extra_routes));
    Ok(Handle { server, address, admin_token, authority, shutdown_delay, task })
}

fn serving_certificate(
    config: &Config,
    authority: &tls::Authority,
    names: &[String],
) -> anyhow::Result<(String, String)> {
    let wanted = names.join(",");
    let kept = |file: &str| std::fs::read_to_string(config.data_dir.join(file)).ok();
    if kept("serving.names").as_deref() == Some(&wanted)
        && let (Some(certificate), Some(key)) = (kept("serving.crt"), kept("serving.key"))
    {
        return Ok((certificate, key));
    }
    let (certificate, key) = authority.issue(names)?;
    tls::write_private(&config.data_dir.join("serving.crt"), &certificate)?;
    tls::write_private(&config.data_dir.join("serving.key"), &key)?;
    tls::write_private(&config.data_dir.join("serving.names"), &wanted)?;
    Ok((certificate, key))
}

impl Handle {
    /// `https://address`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    /// The administrator's bearer token.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A kubeconfig for the administrator.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_for("admin", &format!("token: {}", self.admin_token))
    }

    /// Issues a serving certificate from the server's authority: certificate and key, both PEM.
    pub fn issue_certificate(&self, names: &[String]) -> anyhow::Result<(String, String)> {
        self.authority.issue(names)
    }

    /// Issues a client certificate: the user is its common name, the group its organisation. Certificate and key, PEM.
    pub fn issue_client_certificate(
        &self,
        user: &str,
        group: Option<&str>,
        days: u16,
    ) -> anyhow::Result<(String, String)> {
        self.authority.issue_client(user, group, days)
    }

    /// A kubeconfig with a client certificate instead of a token.
    pub fn kubeconfig_with_certificate(&self, user: &str, group: Option<&str>, days: u16) -> anyhow::Result<String> {
        let (certificate, key) = self.issue_client_certificate(user, group, days)?;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let credentials =
            format!("client-certificate-data: {}\n    client-key-data: {}", encode(&certificate), encode(&key));
        Ok(self.kubeconfig_for(user, &credentials))
    }

    fn kubeconfig_for(&self, user: &str, credentials: &str) -> String {
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.authority.pem);
        let user = serde_json::Value::from(user);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: embedded\nclusters:\n- name: embedded\n  cluster:\n    server: {}\n    certificate-authority-data: {ca}\n\
             contexts:\n- name: embedded\n  context:\n    cluster: embedded\n    user: {user}\nusers:\n- name: {user}\n  user:\n    {credentials}\n",
            self.url(),
        )
    }

    /// Says that it is not ready any more, ends watches, lets requests in flight finish, and closes the store.
    pub async fn shutdown(self) {
        self.server.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.shutdown_delay).await;
        self.server.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server's task ended badly");
        }
        let server = self.server.clone();
        let close = move || {
            server.store.close();
            if let Some(log) = &server.audit {
                log.close();
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(close).await {
            tracing::error!(%error, "the store was not closed properly");
        }
    }
}
