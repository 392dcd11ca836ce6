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

mod apply;
mod auth;
mod controllers;
mod convert;
mod discovery;
mod error;
mod handlers;
mod meta;
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

use anyhow::Context;

/// Who made a request; handlers behind [`Config::extra_routes`] find it in the request's extensions.
pub use auth::User;
/// The error type whose response is a `metav1.Status`, for handlers behind [`Config::extra_routes`].
pub use error::ApiError;

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
    /// Handlers for paths that this server does not know, such as other groups' subresources. They run behind
    /// authentication; the user is in the request's extensions as [`User`].
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
    let tls = tls::server_config(&certificate, &key)?;
    let extra_routes = config.extra_routes.clone();
    let server = server::Server::open(config, &admin_token, &authority.pem, address)?;
    controllers::bootstrap(&server).await?;
    controllers::spawn(&server);
    let task = tokio::spawn(server::serve(server.clone(), listener, tls, extra_routes));
    Ok(Handle { server, address, admin_token, authority, task })
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
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.authority.pem);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: embedded\nclusters:\n- name: embedded\n  cluster:\n    server: {}\n    certificate-authority-data: {ca}\n\
             contexts:\n- name: embedded\n  context:\n    cluster: embedded\n    user: admin\nusers:\n- name: admin\n  user:\n    token: {}\n",
            self.url(),
            self.admin_token,
        )
    }

    /// Issues a serving certificate from the server's authority: certificate and key, both PEM.
    pub fn issue_certificate(&self, names: &[String]) -> anyhow::Result<(String, String)> {
        self.authority.issue(names)
    }

    /// Ends watches and connections, waits for accepted writes and closes the store.
    pub async fn shutdown(self) {
        self.server.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the server's task ended badly");
        }
        let store = self.server.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the store was not closed properly");
        }
    }
}
