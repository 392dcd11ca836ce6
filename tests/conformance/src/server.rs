//! The two servers: ours in this process on a temporary folder, and kube-apiserver with etcd beside it.

use anyhow::{Context as _, Result};
use forklift_testkit::peers::kube::KubeApiserver;

/// Which server it is; also how `differences.md` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The embedded API server.
    Ours,
    /// kube-apiserver with etcd.
    Real,
}

impl Kind {
    /// `ours` or `real`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Real => "real",
        }
    }
}

enum Running {
    Ours { handle: apiserver::Handle, _folder: tempfile::TempDir },
    Real { peer: KubeApiserver },
    Elsewhere,
}

/// A running server and a client for it.
pub struct Server {
    kind: Kind,
    url: String,
    token: String,
    ca: String,
    http: reqwest::Client,
    running: Running,
}

impl Server {
    /// Starts the embedded server in this process, as `apiserver::Config::new` sets it up.
    pub async fn ours() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        let handle = apiserver::start(apiserver::Config::new(folder.path())).await?;
        let (url, token, ca) = (handle.url(), handle.admin_token().to_string(), handle.ca_pem().to_string());
        let http = client(Some(&ca))?;
        Ok(Self { kind: Kind::Ours, url, token, ca, http, running: Running::Ours { handle, _folder: folder } })
    }

    /// Starts kube-apiserver and etcd; None where they are not installed and need not be. With CONFORMANCE_SERVER, an
    /// address, and CONFORMANCE_TOKEN, its administrator's token, takes that server; its certificate is not checked.
    pub async fn real() -> Result<Option<Self>> {
        if let Ok(url) = std::env::var("CONFORMANCE_SERVER") {
            let token = std::env::var("CONFORMANCE_TOKEN").context("CONFORMANCE_TOKEN is not set")?;
            let http = client(None)?;
            return Ok(Some(Self {
                kind: Kind::Real,
                url,
                token,
                ca: String::new(),
                http,
                running: Running::Elsewhere,
            }));
        }
        let Some(peer) = tokio::task::spawn_blocking(KubeApiserver::start).await? else { return Ok(None) };
        let (url, token, ca) = (peer.url().to_string(), peer.token().to_string(), peer.ca()?);
        let http = client(Some(&ca))?;
        Ok(Some(Self { kind: Kind::Real, url, token, ca, http, running: Running::Real { peer } }))
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `https://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's bearer token (group `system:masters`).
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The certificate of the authority that signed the serving certificate, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// A client that trusts the server and sends no credentials by itself.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// A client certificate and its key (PEM) for a user in one group.
    pub fn client_certificate(&self, user: &str, group: &str) -> Result<(String, String)> {
        match &self.running {
            Running::Ours { handle, .. } => handle.issue_client_certificate(user, Some(group), 1),
            Running::Real { peer } => peer.client_certificate(user, &[group]),
            Running::Elsewhere => anyhow::bail!("no authority for client certificates of a server elsewhere"),
        }
    }

    /// A client that trusts the server and shows a certificate.
    pub fn client_with(&self, certificate: &str, key: &str) -> Result<reqwest::Client> {
        let identity = reqwest::Identity::from_pem(format!("{certificate}\n{key}").as_bytes())?;
        let ca = reqwest::Certificate::from_pem(self.ca.as_bytes())?;
        Ok(reqwest::Client::builder().no_proxy().tls_certs_only([ca]).identity(identity).build()?)
    }

    /// Ends the server.
    pub async fn stop(self) {
        match self.running {
            Running::Ours { handle, .. } => handle.shutdown().await,
            // dropping it ends its processes
            Running::Real { .. } | Running::Elsewhere => {}
        }
    }
}

fn client(ca: Option<&str>) -> Result<reqwest::Client> {
    // several tests of one process do this; the first one wins
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy();
    let builder = match ca {
        Some(ca) => {
            let ca =
                reqwest::Certificate::from_pem(ca.as_bytes()).context("the server's authority is no certificate")?;
            builder.tls_certs_only([ca])
        }
        None => builder.tls_danger_accept_invalid_certs(true),
    };
    Ok(builder.build()?)
}
