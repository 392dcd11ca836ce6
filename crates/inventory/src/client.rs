//! A client of the inventory's REST service, for the command line and the console.

use std::time::Duration;

use serde_json::Value;

/// Why the inventory gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service cannot be reached.
    #[error("cannot reach the inventory at {url}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The token is missing or not accepted.
    #[error("the inventory does not accept the token")]
    Unauthorized,
    /// The user may not read it.
    #[error("the inventory refuses: {0}")]
    Forbidden(String),
    /// The provider's inventory is not loaded, or the provider not known yet.
    #[error("the provider's inventory is not ready")]
    NotReady,
    /// There is no such resource.
    #[error("{0} is not in the inventory")]
    NotFound(String),
    /// Anything else.
    #[error("the inventory answered {status} for {path}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What was asked.
        path: String,
        /// What it said.
        message: String,
    },
}

/// A client of one inventory service.
#[derive(Clone, Debug)]
pub struct InventoryClient {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl InventoryClient {
    /// Returns a client; `ca` is a PEM bundle, `insecure` turns certificate checks off.
    pub fn new(base: &str, token: Option<&str>, ca: Option<&[u8]>, insecure: bool) -> Result<Self, reqwest::Error> {
        // the program may have chosen a provider already; then that one holds
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).danger_accept_invalid_certs(insecure);
        if let Some(ca) = ca {
            for certificate in reqwest::Certificate::from_pem_bundle(ca)? {
                http = http.add_root_certificate(certificate);
            }
        }
        Ok(Self { http: http.build()?, base: base.trim_end_matches('/').to_owned(), token: token.map(str::to_owned) })
    }

    /// Gets a path such as `providers/ova/<uid>/vms` with query parameters.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, ClientError> {
        let url = format!("{}/{}", self.base, path.trim_start_matches('/'));
        let unreachable = |source| ClientError::Unreachable { url: url.clone(), source };
        let mut target = reqwest::Url::parse(&url).map_err(|error| ClientError::Status {
            status: 0,
            path: path.to_owned(),
            message: format!("{url} is not a URL: {error}"),
        })?;
        if !query.is_empty() {
            target.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.get(target);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(unreachable)?;
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let message = header("forklift-error-message");
        let unknown_provider = header("X-Reason") == "ProviderNotFound";
        match response.status().as_u16() {
            200 => response.json().await.map_err(unreachable),
            206 => Err(ClientError::NotReady),
            404 if unknown_provider => Err(ClientError::NotReady),
            404 => Err(ClientError::NotFound(path.to_owned())),
            401 => Err(ClientError::Unauthorized),
            403 => Err(ClientError::Forbidden(message)),
            status => Err(ClientError::Status { status, path: path.to_owned(), message }),
        }
    }
}
