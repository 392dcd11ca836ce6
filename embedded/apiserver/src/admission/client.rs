//! Calling a webhook: where it is, whom to trust, how long to wait.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::meta;
use crate::storage::{Key, Store};

/// Longest answer that is read, bytes.
const LONGEST_ANSWER: usize = 16 << 20;
/// Connections are kept for this many webhooks.
const KEPT: usize = 64;

/// Clients for webhooks, by whom they trust and where they go.
#[derive(Default)]
pub struct Clients {
    kept: Mutex<HashMap<(String, String, Option<SocketAddr>), reqwest::Client>>,
}

/// Where a webhook is.
struct Place {
    url: String,
    host: String,
    /// Where the host of a service really is.
    address: Option<SocketAddr>,
}

/// Posts a review and returns the answer; the error is the text that kube-apiserver shows.
pub async fn call(
    store: &Store,
    clients: &Clients,
    config: &Value,
    review: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    let place = locate(store, config, timeout)?;
    let url = match place.url.contains('?') {
        true => format!("{}&timeout={}s", place.url, timeout.as_secs()),
        false => format!("{}?timeout={}s", place.url, timeout.as_secs()),
    };
    let failed = |why: String| format!("failed to call webhook: Post \"{url}\": {why}");
    let trust = meta::text(config, "/caBundle");
    let client = clients.client(trust, &place).map_err(failed)?;
    let exchange = async {
        let request = client.post(&url).header("content-type", "application/json").body(review.to_string());
        let mut response = request.send().await.map_err(|e| root_cause(&e))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|e| root_cause(&e))? {
            if body.len() + part.len() > LONGEST_ANSWER {
                return Err("the answer is too long".to_string());
            }
            body.extend_from_slice(&part);
        }
        if !status.is_success() {
            let shown: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(format!("the server responded with status {}: {shown}", status.as_u16()));
        }
        serde_json::from_slice(&body).map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed("context deadline exceeded".into())),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(below) = at.source() {
        at = below;
    }
    at.to_string()
}

impl Clients {
    fn client(&self, trust: &str, place: &Place) -> Result<reqwest::Client, String> {
        let key = (trust.to_string(), place.host.clone(), place.address);
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(client) = kept.get(&key) {
            return Ok(client.clone());
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots(trust)?)
            .with_no_client_auth();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        if let Some(address) = place.address {
            builder = builder.resolve(&place.host, address);
        }
        let client = builder.build().map_err(|e| root_cause(&e))?;
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, client.clone());
        Ok(client)
    }
}

fn roots(bundle: &str) -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = base64::engine::general_purpose::STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| format!("caBundle: {e}"))?;
        roots.add(certificate).map_err(|e| format!("caBundle: {e}"))?;
    }
    Ok(roots)
}

fn locate(store: &Store, config: &Value, timeout: Duration) -> Result<Place, String> {
    let url = meta::text(config, "/url");
    if !url.is_empty() {
        let host = url.split("//").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
        return Ok(Place { url: url.into(), host: host.into(), address: None });
    }
    let of = |field: &str| meta::text(config, &format!("/service/{field}"));
    let (namespace, name) = (of("namespace"), of("name"));
    if name.is_empty() {
        return Err("webhook configuration must have either service or URL".into());
    }
    let port = config.pointer("/service/port").and_then(Value::as_i64).unwrap_or(443);
    let host = format!("{name}.{namespace}.svc");
    let path = of("path").trim_start_matches('/');
    let url = format!("https://{host}:{port}/{path}");
    let address = resolve(store, namespace, name, port)
        .map_err(|why| format!("failed to call webhook: Post \"{url}?timeout={}s\": {why}", timeout.as_secs()))?;
    Ok(Place { url, host, address: Some(address) })
}

/// Where a port of a service is served: an address of its Endpoints, or else the service's own.
fn resolve(store: &Store, namespace: &str, name: &str, port: i64) -> Result<SocketAddr, String> {
    let object = |resource: &str| store.get(&Key::new(&resource.into(), namespace, name)).map(|o| o.value());
    let Some(service) = object("/services") else { return Err(format!("service \"{name}\" not found")) };
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let Some(found) = ports.into_iter().find(|p| p.get("port").and_then(Value::as_i64) == Some(port)) else {
        return Err(format!("no service port {port} found for service \"{name}\""));
    };
    let number = |value: Option<i64>| value.and_then(|n| u16::try_from(n).ok());
    let port_name = meta::text(found, "/name");
    let endpoints = object("/endpoints").unwrap_or_default();
    for subset in endpoints.get("subsets").and_then(Value::as_array).into_iter().flatten() {
        let ports = subset.get("ports").and_then(Value::as_array).into_iter().flatten();
        let target = ports.into_iter().find(|p| meta::text(p, "/name") == port_name);
        let target = number(target.and_then(|p| p.get("port")).and_then(Value::as_i64));
        let addresses = subset.get("addresses").and_then(Value::as_array).into_iter().flatten();
        let ip = addresses.filter_map(|a| meta::text(a, "/ip").parse::<IpAddr>().ok()).next();
        if let (Some(ip), Some(port)) = (ip, target) {
            return Ok(SocketAddr::new(ip, port));
        }
    }
    let own = meta::text(&service, "/spec/clusterIP").parse::<IpAddr>().ok();
    match (own, number(Some(port))) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(format!("no endpoints available for service \"{name}\"")),
    }
}
