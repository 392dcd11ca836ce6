//! The way to another server: service → endpoint → TLS → HTTP/1.1.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::{Aggregator, Remote};
use crate::meta;
use crate::server::Server;
use crate::storage::Key;

/// Why a server is not reached: Kubernetes' reason of the condition, and the sentence.
pub type Unreachable = (&'static str, String);

/// Finds an endpoint of the service.
pub fn resolve(server: &Server, remote: &Remote) -> Result<SocketAddr, Unreachable> {
    let (namespace, name, port) = &remote.service;
    let get =
        |resource: &str| server.store.get(&Key::new(&resource.into(), namespace, name)).map(|object| object.value());
    let Some(service) = get("/services") else {
        return Err(("ServiceNotFound", format!("service/{name} in \"{namespace}\" is not present")));
    };
    let array =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let ports = array(&service, "/spec/ports");
    let Some(wanted) = ports.iter().find(|one| one.get("port").and_then(Value::as_i64) == Some(*port)) else {
        return Err(("ServicePortError", format!("service/{name} in \"{namespace}\" is not listening on port {port}")));
    };
    let wanted = meta::text(wanted, "/name").to_owned();
    let number = |ports: &[Value]| {
        ports.iter().find(|one| meta::text(one, "/name") == wanted).and_then(|one| one.get("port")?.as_u64())
    };
    let mut candidates: Vec<(String, u64)> = Vec::new();
    for subset in get("/endpoints").iter().flat_map(|endpoints| array(endpoints, "/subsets")) {
        let Some(port) = number(&array(&subset, "/ports")) else { continue };
        let addresses = array(&subset, "/addresses");
        candidates.extend(addresses.iter().map(|address| (meta::text(address, "/ip").to_owned(), port)));
    }
    for slice in server.store.list("discovery.k8s.io/endpointslices", Some(namespace)).0 {
        let slice = slice.value();
        let labels = slice.pointer("/metadata/labels");
        if labels.and_then(|labels| labels.get("kubernetes.io/service-name")?.as_str()) != Some(name) {
            continue;
        }
        let Some(port) = number(&array(&slice, "/ports")) else { continue };
        for endpoint in array(&slice, "/endpoints") {
            if endpoint.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false) {
                let addresses = array(&endpoint, "/addresses");
                candidates.extend(addresses.iter().filter_map(|address| Some((address.as_str()?.to_owned(), port))));
            }
        }
    }
    let parsed = candidates.iter().find_map(|(ip, port)| {
        let port = u16::try_from(*port).ok()?;
        Some(SocketAddr::new(ip.parse().ok()?, port))
    });
    parsed.ok_or_else(|| {
        (
            "MissingEndpoints",
            format!("endpoints for service/{name} in \"{namespace}\" have no addresses with port name \"{wanted}\""),
        )
    })
}

/// Opens a connection; requests are answered one after the other, and may be upgraded.
pub async fn connect(server: &Server, remote: &Remote) -> Result<SendRequest<Body>, Unreachable> {
    let address = resolve(server, remote)?;
    let failed =
        |error: &dyn std::fmt::Display| ("FailedDiscoveryCheck", format!("cannot reach https://{address}: {error}"));
    let config = client_config(&server.aggregator, remote).map_err(|error| failed(&error))?;
    let (namespace, name, _) = &remote.service;
    let host = ServerName::try_from(format!("{name}.{namespace}.svc")).map_err(|error| failed(&error))?;
    let opening = async {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(host, stream).await
    };
    let opening = tokio::time::timeout(std::time::Duration::from_secs(5), opening).await;
    let stream = opening.map_err(|_| failed(&"no answer within 5 s"))?.map_err(|error| failed(&error))?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to an aggregated API server ended");
        }
    });
    Ok(sender)
}

fn client_config(aggregator: &Aggregator, remote: &Remote) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &remote.authority {
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate?)?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    let mut config = builder.with_client_auth_cert(aggregator.chain.clone(), aggregator.key.clone_key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For `insecureSkipTLSVerify`: whoever answers is taken for the server.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
