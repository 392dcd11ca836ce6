//! The shared state, the accept loop, and the way of a request to its handler.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Clients};
use crate::auth::{Auth, certificate};
use crate::limits::{Limits, Patient, PerUser, Seats};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::storage::Store;
use crate::{Config, audit, discovery, gate, handlers, health, openapi};

pub use crate::gate::LongRunning;

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
    /// Groups that other servers serve.
    pub aggregator: crate::aggregate::Aggregator,
    /// Published schemas, kept until the resources change.
    pub openapi: openapi::Cache,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// What clients may take.
    pub limits: Limits,
    /// Seats of requests that change nothing.
    pub read_seats: Seats,
    /// Seats of requests that change something.
    pub write_seats: Seats,
    /// Watches and the like, by user.
    pub open: PerUser,
    /// Counters.
    pub metrics: Metrics,
    /// The audit log, when there is one.
    pub audit: Option<audit::Log>,
    /// Whether the objects that every cluster has are there.
    pub bootstrapped: AtomicBool,
    /// Whether the server is about to go: not ready any more.
    pub draining: AtomicBool,
    /// Longest wait for requests in flight when the server goes.
    pub grace: Duration,
    /// Webhooks and policies.
    pub admission: Admission,
    /// Clients for webhooks.
    pub hook_clients: Arc<Clients>,
    /// Ends everything.
    pub stop: CancellationToken,
}

impl Server {
    /// Opens the store and takes in the CRDs that are in it.
    pub fn open(config: Config, admin_token: &str, ca_pem: &str, address: SocketAddr) -> anyhow::Result<Arc<Self>> {
        let store = Store::open(&config.data_dir.join(crate::storage::FILE), config.history)?;
        let auth = Auth::load(&config.data_dir, admin_token, config.tokens)?;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let limits = config.limits;
        let seats = |total| Seats::new(total, limits.queue, limits.wait);
        let audit = config.audit.map(|audit| audit::Log::open(audit, &config.data_dir)).transpose()?;
        let aggregator = crate::aggregate::Aggregator::open(&config.data_dir)?;
        let server = Arc::new(Self {
            read_seats: seats(limits.read_only),
            write_seats: seats(limits.mutating),
            limits,
            open: PerUser::default(),
            metrics: Metrics::default(),
            audit,
            bootstrapped: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            grace: config.grace,
            data_dir: config.data_dir,
            store,
            registry: Registry::default(),
            auth,
            kubelet_token: config.kubelet_token,
            ca_pem: ca_pem.to_string(),
            address,
            kubelet: reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?,
            aggregator,
            openapi: openapi::Cache::default(),
            admission: Admission::default(),
            hook_clients: Arc::default(),
            stop: CancellationToken::new(),
        });
        for crd in server.store.list("apiextensions.k8s.io/customresourcedefinitions", None).0 {
            server.take_in_crd(&crd.key.name);
        }
        Ok(server)
    }

    /// Whether the objects that every cluster has are there.
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::Relaxed)
    }

    /// Serves what the stored CRD says now.
    pub fn take_in_crd(&self, name: &str) {
        let key = crate::storage::Key::new(&"apiextensions.k8s.io/customresourcedefinitions".into(), "", name);
        let Some(crd) = self.store.get(&key) else { return self.registry.set_custom(name, Vec::new()) };
        let value = crd.value();
        let mut resources = crate::registry::crd::resources(&value).unwrap_or_else(|error| {
            tracing::error!(%error, crd = name, "cannot serve this custom resource definition");
            Vec::new()
        });
        let conversion = crate::convert::Conversion::of(&value, &self.store, &self.hook_clients);
        for resource in &mut resources {
            resource.since = crd.revision;
            resource.conversion = conversion.clone();
        }
        self.registry.set_custom(name, resources);
    }
}

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address.
    pub address: SocketAddr,
    /// Who the client's certificate names.
    pub user: Option<crate::auth::User>,
}

/// Accepts connections until the server is stopped, then waits for requests in flight.
pub async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    extra_routes: axum::Router,
) {
    let routes = axum::Router::new().fallback(dispatch).with_state(server.clone());
    let routes = if extra_routes.has_routes() { extra_routes.fallback_service(routes) } else { routes };
    let app = routes.layer(middleware::from_fn_with_state(server.clone(), gate::pass));
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(server.limits.connections));
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => break,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        let ((stream, peer), place) = match accepted {
            (Ok(accepted), place) => (accepted, place),
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a connection");
                // file descriptors may have run out; connections that end give some back
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (acceptor, app, server) = (acceptor.clone(), app.clone(), server.clone());
        connections.spawn(async move {
            let _place = place;
            server.metrics.connections.fetch_add(1, Ordering::Relaxed);
            connection(&server, stream, peer, acceptor, app).await;
            server.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    server: &Arc<Server>,
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    app: axum::Router,
) {
    // small responses and watch events should not wait for more
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, server.limits.stalled);
    let stream = match tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(peer = %address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(peer = %address, "TLS handshake took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = shown.and_then(|certificate| certificate::user_of(certificate));
    let app = app.layer(Extension(Peer { address, user }));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(server.limits.receive);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(server.limits.streams)
        .max_header_list_size(1 << 20)
        // a client that went away without a word is noticed, and its watches end
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app));
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::debug!(peer = %address, %error, "connection ended");
            }
        }
        () = server.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // watches end by themselves on stop; a client that does not read is not waited for longer
            let _ = tokio::time::timeout(server.grace, connection).await;
        }
    }
}

async fn dispatch(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let path = request.uri().path().trim_end_matches('/').to_string();
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    if let Some(remote) = crate::aggregate::remote(&server, &segments) {
        return crate::aggregate::forward(server, remote, request).await.unwrap_or_else(IntoResponse::into_response);
    }
    let result = match segments.as_slice() {
        [endpoint @ ("healthz" | "livez" | "readyz"), check @ ..] => {
            health::answer(&server, endpoint, &check.join("/"), request.uri())
        }
        [] => Ok(discovery::root(&server)),
        ["metrics"] => Ok(metrics(&server)),
        ["version"] => Ok(discovery::version()),
        ["api"] => Ok(discovery::core_versions(&server, request.headers())),
        ["api", version] => discovery::resources(&server, "", version),
        ["apis"] => Ok(discovery::groups(&server, request.headers())),
        ["apis", group] => discovery::group(&server, group),
        ["apis", group, version] => discovery::resources(&server, group, version),
        ["openapi", "v2"] => openapi::v2(&server, request.headers()),
        ["openapi", "v3"] => Ok(openapi::v3_index(&server)),
        ["openapi", "v3", rest @ ..] => openapi::v3_group(&server, &rest.join("/"), request.uri()),
        _ => handlers::handle(server, request).await,
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

fn metrics(server: &Server) -> Response {
    let content = [(http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content, server.metrics.render(server)).into_response()
}
