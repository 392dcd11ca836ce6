//! Aggregated API servers: groups that another server on this machine serves, as its `APIService` says.
//!
//! ```text
//! client ─► authentication ─► RBAC ─► proxy ══ TLS, front-proxy certificate, X-Remote-User ══► the service's endpoint
//!                                       ▲
//!              availability: discovery ─┘  (APIService condition Available, /apis)
//! ```
//! The other server knows the proxy by its client certificate, whose authority and name it reads from the config map
//! `kube-system/extension-apiserver-authentication`, as on a cluster. A group that this server serves itself stays its own.

mod availability;
mod backend;
mod proxy;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::meta;
use crate::server::Server;
use crate::tls;

pub use availability::run;
pub use proxy::forward;

/// The name in the proxy's certificate.
pub const PROXY: &str = "front-proxy-client";
/// The resource of `APIService` objects.
pub const RESOURCE: &str = "apiregistration.k8s.io/apiservices";

/// A group and version that another server serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Its service: namespace, name, port.
    pub service: (String, String, i64),
    /// The authority of its certificate, PEM; none: it is not asked for one that is known.
    pub authority: Option<String>,
    /// What it serves, as `APIResourceDiscovery`; none: it has not answered yet.
    pub resources: Option<Vec<Value>>,
    /// It answered when it was last asked.
    pub available: bool,
}

/// What is known of other servers, and how the proxy shows itself to them.
pub struct Aggregator {
    remotes: RwLock<BTreeMap<String, Remote>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The authority of the proxy's certificate, PEM.
    pub authority: String,
}

impl Aggregator {
    /// Loads or makes the proxy's own authority, and issues its certificate.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("front-proxy");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let authority = tls::Authority::load(&dir)?;
        let (certificate, key) = authority.issue_client(PROXY, None, 3650)?;
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .context("the proxy's certificate is damaged")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the proxy's key is damaged")?;
        Ok(Self { remotes: RwLock::default(), chain, key, authority: authority.pem })
    }

    /// The server of a group's version.
    pub fn find(&self, group: &str, version: &str) -> Option<Remote> {
        let remotes = self.remotes.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        remotes.values().find(|remote| remote.group == group && remote.version == version).cloned()
    }

    /// All groups with their versions, the preferred one first.
    pub fn groups(&self) -> BTreeMap<String, Vec<Remote>> {
        let remotes = self.remotes.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut groups: BTreeMap<String, Vec<Remote>> = BTreeMap::new();
        for remote in remotes.values() {
            groups.entry(remote.group.clone()).or_default().push(remote.clone());
        }
        groups
    }

    fn set(&self, name: &str, remote: Option<Remote>) {
        let mut remotes = self.remotes.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match remote {
            Some(remote) => remotes.insert(name.to_owned(), remote),
            None => remotes.remove(name),
        };
    }

    fn names(&self) -> Vec<String> {
        self.remotes.read().unwrap_or_else(|poisoned| poisoned.into_inner()).keys().cloned().collect()
    }
}

/// The server of a path below `/apis/GROUP/VERSION`, unless the group is our own.
pub fn remote(server: &Server, segments: &[&str]) -> Option<Remote> {
    let ["apis", group, version, ..] = segments else { return None };
    let remote = server.aggregator.find(group, version)?;
    let ours = server.registry.all().iter().any(|resource| resource.group == *group && resource.version == *version);
    (!ours).then_some(remote)
}

/// Groups of which none is our own.
fn foreign(server: &Server) -> BTreeMap<String, Vec<Remote>> {
    let mut groups = server.aggregator.groups();
    if !groups.is_empty() {
        let own: Vec<String> = server.registry.groups().into_iter().map(|group| group.name).collect();
        groups.retain(|name, _| !own.contains(name));
    }
    groups
}

/// `APIGroupDiscovery` of the groups that others serve.
pub fn discoveries(server: &Server) -> Vec<Value> {
    let groups = foreign(server).into_iter().map(|(name, versions)| {
        let versions: Vec<Value> = versions
            .iter()
            .map(|remote| {
                let freshness = if remote.available { "Current" } else { "Stale" };
                let resources = remote.resources.clone().unwrap_or_default();
                json!({"version": remote.version, "freshness": freshness, "resources": resources})
            })
            .collect();
        json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
    });
    groups.collect()
}

/// `APIGroup` of the groups that others serve, without kind and version.
pub fn groups(server: &Server) -> Vec<Value> {
    let groups = foreign(server).into_iter().map(|(name, versions)| {
        let versions: Vec<Value> = versions
            .iter()
            .map(|remote| json!({"groupVersion": format!("{name}/{}", remote.version), "version": remote.version}))
            .collect();
        json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
    });
    groups.collect()
}

/// What a server has to know to trust the proxy: data of the config map.
pub fn authentication(server: &Server) -> Value {
    json!({"data": {
        "client-ca-file": server.ca_pem,
        "requestheader-client-ca-file": server.aggregator.authority,
        "requestheader-allowed-names": json!([PROXY]).to_string(),
        "requestheader-username-headers": "[\"X-Remote-User\"]",
        "requestheader-group-headers": "[\"X-Remote-Group\"]",
        "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
    }})
}

/// Reads an `APIService` that names a service; none when it is local.
fn read(value: &Value) -> Option<Remote> {
    let service = value.pointer("/spec/service").filter(|service| service.is_object())?;
    let text = |pointer: &str| meta::text(service, pointer).to_owned();
    let bundle = meta::text(value, "/spec/caBundle");
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bundle).ok();
    let insecure = value.pointer("/spec/insecureSkipTLSVerify").and_then(Value::as_bool) == Some(true);
    Some(Remote {
        group: meta::text(value, "/spec/group").to_owned(),
        version: meta::text(value, "/spec/version").to_owned(),
        service: (text("/namespace"), text("/name"), service.get("port").and_then(Value::as_i64).unwrap_or(443)),
        authority: (!insecure).then(|| decoded.and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default()),
        resources: None,
        available: false,
    })
}

/// `Arc` of the server, for tasks.
type Shared = Arc<Server>;
