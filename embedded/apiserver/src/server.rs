//! The shared state, the accept loop, and the way of a request to its handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Auth, User};
use crate::error::ApiError;
use crate::registry::Registry;
use crate::storage::Store;
use crate::{Config, discovery, handlers, openapi};

/// Largest request body.
pub const BODY_LIMIT: usize = 3 << 20;

/// What all handlers share.
pub struct Server {
    /// The objects.
    pub store: Arc<Store>,
    /// The resources.
    pub registry: Registry,
    /// Who may do what.
    pub auth: Auth,
    /// Token for the kubelet endpoint.
    pub kubelet_token: String,
    /// The authority's certificate, for the root CA config map.
    pub ca_pem: String,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Client for log requests.
    pub kubelet: reqwest::Client,
    /// Published schemas, kept until the resources change.
    pub openapi: openapi::Cache,
    /// Ends everything.
    pub stop: CancellationToken,
}

impl Server {
    /// Opens the store and takes in the CRDs that are in it.
    pub fn open(config: Config, admin_token: &str, ca_pem: &str, address: SocketAddr) -> anyhow::Result<Arc<Self>> {
        let store = Store::open(&config.data_dir.join("store.db"), config.history)?;
        let auth = Auth::load(&config.data_dir, admin_token, config.tokens)?;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let server = Arc::new(Self {
            store,
            registry: Registry::default(),
            auth,
            kubelet_token: config.kubelet_token,
            ca_pem: ca_pem.to_string(),
            address,
            kubelet: reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?,
            openapi: openapi::Cache::default(),
            stop: CancellationToken::new(),
        });
        for crd in server.store.list("apiextensions.k8s.io/customresourcedefinitions", None).0 {
            server.take_in_crd(&crd.key.name);
        }
        Ok(server)
    }

    /// Serves what the stored CRD says now.
    pub fn take_in_crd(&self, name: &str) {
        let key = crate::storage::Key::new(&"apiextensions.k8s.io/customresourcedefinitions".into(), "", name);
        let resources = match self.store.get(&key) {
            None => Vec::new(),
            Some(crd) => crate::registry::crd::resources(&crd.value()).unwrap_or_else(|error| {
                tracing::error!(%error, crd = name, "cannot serve this custom resource definition");
                Vec::new()
            }),
        };
        self.registry.set_custom(name, resources);
    }
}

/// Accepts connections until the server is stopped.
pub async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    extra_routes: axum::Router,
) {
    let routes = axum::Router::new().fallback(dispatch).with_state(server.clone());
    let routes = if extra_routes.has_routes() { extra_routes.fallback_service(routes) } else { routes };
    let app = routes.layer(middleware::from_fn_with_state(server.clone(), authenticate));
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = server.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::task::yield_now().await;
                    continue;
                }
            },
        };
        let (acceptor, app, stop) = (acceptor.clone(), app.clone(), server.stop.clone());
        connections.spawn(async move {
            // small responses and watch events should not wait for more
            let _ = stream.set_nodelay(true);
            let stream = match tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
            };
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(1000);
            let connection =
                builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app));
            tokio::pin!(connection);
            tokio::select! {
                result = &mut connection => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                }
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    // watches end by themselves on stop; a client that does not read is not waited for
                    let _ = tokio::time::timeout(Duration::from_secs(2), connection).await;
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}

const OPEN_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

async fn authenticate(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = OPEN_PATHS.iter().any(|p| path == *p || path.strip_prefix(p).is_some_and(|rest| rest.starts_with('/')));
    match server.auth.authenticate(&server.store, request.headers()) {
        Some(user) => {
            request.extensions_mut().insert(user);
        }
        None if open && !request.headers().contains_key(http::header::AUTHORIZATION) => {
            request.extensions_mut().insert(User::anonymous());
        }
        None => return ApiError::unauthorized().into_response(),
    }
    let mut response = next.run(request).await;
    response.headers_mut().entry(http::header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    response
}

async fn dispatch(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let path = request.uri().path().trim_end_matches('/').to_string();
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let result = match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok("ok".into_response()),
        [] => Ok(discovery::root(&server)),
        ["version"] => Ok(discovery::version()),
        ["api"] => Ok(discovery::core_versions(&server, request.headers())),
        ["api", version] => discovery::resources(&server, "", version),
        ["apis"] => Ok(discovery::groups(&server, request.headers())),
        ["apis", group] => discovery::group(&server, group),
        ["apis", group, version] => discovery::resources(&server, group, version),
        ["openapi", "v2"] => Ok(openapi::v2(&server)),
        ["openapi", "v3"] => Ok(openapi::v3_index(&server)),
        ["openapi", "v3", rest @ ..] => openapi::v3_group(&server, &rest.join("/")),
        _ => handlers::handle(server, request).await,
    };
    result.unwrap_or_else(IntoResponse::into_response)
}
