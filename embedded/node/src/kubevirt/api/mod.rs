//! The API group `subresources.kubevirt.io/v1`, served as KubeVirt's virt-api serves it: an aggregated API server.
//!
//! ```text
//! kubectl, virtctl ─► API server ══ TLS, front-proxy certificate ══► here ─► QEMU's sockets, the guest agent, the API
//! ```
//! The API server has authorized a request before it comes here; only its proxy gets in ([`identity`]).

mod discovery;
mod error;
mod guest;
mod identity;
mod power;
mod streams;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, put};
use forklift_kubevirt_types::vmi::phase;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use kube::Api;
use tokio_rustls::TlsAcceptor;

use super::Setting;
pub use error::{Failure, Outcome};

/// The group that is served.
pub const GROUP: &str = "subresources.kubevirt.io";
/// Its version.
pub const VERSION: &str = "v1";

/// What all handlers share.
#[derive(Clone)]
pub struct Shared {
    setting: Arc<Setting>,
    consoles: Arc<streams::Consoles>,
}

impl Shared {
    fn machines(&self, namespace: &str) -> Api<VirtualMachine> {
        Api::namespaced(self.setting.client.clone(), namespace)
    }

    fn instances(&self, namespace: &str) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.setting.client.clone(), namespace)
    }

    /// An instance that runs, with the directory of its sockets.
    async fn running(&self, namespace: &str, name: &str) -> Outcome<Running> {
        let instance = self.instances(namespace).get(name).await?;
        let state = instance.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if state != phase::RUNNING {
            return Err(Failure::conflict("virtualmachineinstance", name, "VMI is not running"));
        }
        let uid = instance.metadata.uid.as_deref().unwrap_or_default();
        let Some((dir, guest)) = self.setting.monitors.find(uid) else {
            return Err(Failure::conflict("virtualmachineinstance", name, "VMI is not running on this node yet"));
        };
        Ok(Running { instance, dir, guest })
    }
}

/// An instance that runs.
struct Running {
    instance: VirtualMachineInstance,
    dir: std::path::PathBuf,
    guest: super::monitor::Guest,
}

fn router(shared: Shared) -> Router {
    let machine = "/namespaces/{namespace}/virtualmachines/{name}";
    let instance = "/namespaces/{namespace}/virtualmachineinstances/{name}";
    let group = Router::new()
        .route("/", get(discovery::resources))
        .route("/version", get(discovery::version))
        .route("/healthz", get(|| async { "ok" }))
        .route(&format!("{machine}/start"), put(power::start))
        .route(&format!("{machine}/stop"), put(power::stop))
        .route(&format!("{machine}/restart"), put(power::restart))
        .route(&format!("{machine}/migrate"), put(power::migrate))
        .route(&format!("{machine}/expand-spec"), get(power::expand))
        .route(&format!("{machine}/addvolume"), put(volumes::add_to_machine))
        .route(&format!("{machine}/removevolume"), put(volumes::remove_from_machine))
        .route(&format!("{machine}/portforward/{{port}}"), get(streams::port_forward))
        .route(&format!("{machine}/portforward/{{port}}/{{protocol}}"), get(streams::port_forward_as))
        .route(&format!("{instance}/pause"), put(power::pause))
        .route(&format!("{instance}/unpause"), put(power::unpause))
        .route(&format!("{instance}/softreboot"), put(power::soft_reboot))
        .route(&format!("{instance}/reset"), put(power::reset))
        .route(&format!("{instance}/freeze"), put(guest::freeze))
        .route(&format!("{instance}/unfreeze"), put(guest::unfreeze))
        .route(&format!("{instance}/console"), get(streams::console))
        .route(&format!("{instance}/vnc"), get(streams::vnc))
        .route(&format!("{instance}/portforward/{{port}}"), get(streams::port_forward))
        .route(&format!("{instance}/portforward/{{port}}/{{protocol}}"), get(streams::port_forward_as))
        .route(&format!("{instance}/guestosinfo"), get(guest::os_info))
        .route(&format!("{instance}/userlist"), get(guest::users))
        .route(&format!("{instance}/filesystemlist"), get(guest::filesystems))
        .route(&format!("{instance}/addvolume"), put(volumes::add_to_instance))
        .route(&format!("{instance}/removevolume"), put(volumes::remove_from_instance));
    let base = format!("/apis/{GROUP}/{VERSION}");
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .nest(&base, group)
        .fallback(|| async { Failure::no_such_path() })
        .with_state(shared)
}

/// Serves the group until the node stops. Without an API server that aggregates, the rest of the node goes on.
pub async fn run(setting: Arc<Setting>) {
    let shutdown = setting.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        result = serve(setting) => if let Err(error) = result {
            tracing::error!(%error, "the subresources of virtual machines are not served");
        },
    }
}

async fn serve(setting: Arc<Setting>) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let identity = identity::Identity::make()?;
    let trusted = identity::proxies(&setting.client).await;
    let acceptor = TlsAcceptor::from(Arc::new(identity.server(&trusted)?));
    identity::register(&setting.client, &identity, listener.local_addr()?).await;
    let app = router(Shared { setting, consoles: Arc::default() });
    // ends with this function, which drops it
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            Some(_) = connections.join_next() => continue,
        };
        let (acceptor, app) = (acceptor.clone(), app.clone());
        connections.spawn(async move {
            let stream = match acceptor.accept(stream).await {
                Ok(stream) => stream,
                Err(error) => return tracing::debug!(%error, "somebody other than the API server's proxy"),
            };
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection =
                builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app));
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection of the API server's proxy ended");
            }
        });
    }
}
