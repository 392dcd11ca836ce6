//! Who this server is, whom it lets in, and where the API server finds it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{GROUP, VERSION};

/// Where the service is; KubeVirt's own namespace would be one more that users see.
const NAMESPACE: &str = "kube-system";
/// The service's name, as KubeVirt has it.
const SERVICE: &str = "virt-api";
/// What the API server says about its proxy.
const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// A certificate that is made anew at each start, with its key.
pub struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    /// Makes one for the service's name.
    pub fn make() -> anyhow::Result<Self> {
        let names = vec![format!("{SERVICE}.{NAMESPACE}.svc"), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    /// TLS that lets clients of an authority in, and nobody else.
    pub fn server(&self, authority: &str) -> anyhow::Result<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate.context("the proxy's authority is damaged")?)?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The authority of the API server's proxy; waits until the API server says it.
pub async fn proxies(client: &Client) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    loop {
        let found = maps.get_opt(AUTHENTICATION).await.ok().flatten().and_then(|map| map.data);
        if let Some(authority) = found.and_then(|mut data| data.remove("requestheader-client-ca-file")) {
            return authority;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Makes the service, its endpoint and the `APIService`; tries until it is done.
pub async fn register(client: &Client, identity: &Identity, address: SocketAddr) {
    loop {
        match try_register(client, identity, address).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "the subresources of virtual machines are not registered yet"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn try_register(client: &Client, identity: &Identity, address: SocketAddr) -> kube::Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let ports = json!([{"name": "https", "port": 443, "targetPort": address.port(), "protocol": "TCP"}]);
    put(&services, SERVICE, json!({"spec": {"ports": ports}})).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let slice = json!({
        "metadata": {"labels": {"kubernetes.io/service-name": SERVICE, "endpointslice.kubernetes.io/managed-by": "node.embedded"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    });
    put(&slices, SERVICE, slice).await?;
    let registrations: Api<APIService> = Api::all(client.clone());
    let bundle = base64::engine::general_purpose::STANDARD.encode(&identity.certificate);
    let registration = json!({"spec": {
        "group": GROUP, "version": VERSION, "groupPriorityMinimum": 1000, "versionPriority": 15,
        "service": {"namespace": NAMESPACE, "name": SERVICE, "port": 443}, "caBundle": bundle,
    }});
    put(&registrations, &format!("{VERSION}.{GROUP}"), registration).await
}

/// Creates an object, or brings it to what it should be.
async fn put<K>(api: &Api<K>, name: &str, mut object: Value) -> kube::Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let patch = object.clone();
    object["metadata"]["name"] = json!(name);
    let made: K = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &made).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}
