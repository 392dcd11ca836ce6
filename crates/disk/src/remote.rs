//! What is needed to reach a source over the network: headers, certificates, identity.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// How servers are talked to. Values of headers are secrets: they are never shown.
#[derive(Clone, Default)]
pub struct Access {
    /// Headers of each request, e.g. `Authorization`.
    headers: Vec<(String, String)>,
    /// File with more headers, a line `Name: value` each; empty lines and those with `#` do not count.
    pub header_file: Option<PathBuf>,
    /// PEM file of the authorities that are trusted; none for those of the system.
    pub ca: Option<PathBuf>,
    /// Whether any certificate is taken.
    pub insecure: bool,
    /// Rules for certificates of the caller's own, instead of the two above (HTTP only).
    pub tls: Option<Arc<ClientConfig>>,
    /// What gives the headers of a session, which may expire (HTTP only).
    pub login: Option<Arc<dyn Login>>,
}

/// A session with a server: headers that are good until it expires.
pub trait Login: Send + Sync {
    /// Returns the headers; those of a new session where the server `refused` the ones before.
    fn headers(&self, refused: bool) -> io::Result<Vec<(String, String)>>;
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Access")
            .field("headers", &names)
            .field("header_file", &self.header_file)
            .field("ca", &self.ca)
            .field("insecure", &self.insecure)
            .field("login", &self.login.is_some())
            .finish()
    }
}

impl Access {
    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns all headers, those of the file included.
    pub(crate) fn headers(&self) -> io::Result<Vec<(String, String)>> {
        let mut headers = self.headers.clone();
        let Some(path) = &self.header_file else {
            return Ok(headers);
        };
        let unreadable = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        for (number, line) in (1..).zip(std::fs::read_to_string(path).map_err(unreadable)?.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // the line itself may be the secret: it is not shown
            let wrong = || format!("{}: line {number} is not `Name: value`", path.display());
            let (name, value) =
                line.split_once(':').ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, wrong()))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(headers)
    }

    /// Returns the certificates that are trusted.
    pub(crate) fn authorities(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let Some(path) = &self.ca else {
            // a system's store has odd certificates now and then: what is readable counts
            let found = rustls_native_certs::load_native_certs();
            return Ok(found.certs);
        };
        let named = |error: &dyn fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        };
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).map_err(|error| named(&error))?.collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => Err(named(&"there is no certificate in it")),
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(named(&error)),
        }
    }

    /// Returns the settings of TLS for what is not HTTP.
    pub(crate) fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities()?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// The source is not the one that was opened; becomes [`SourceChanged`](crate::Error::SourceChanged).
#[derive(Debug, thiserror::Error)]
#[error("{field} was {was:?}, now {now:?}")]
pub(crate) struct Changed {
    pub field: &'static str,
    pub was: String,
    pub now: String,
}

/// Returns the error of a source that changed while it was read.
pub(crate) fn changed(field: &'static str, was: String, now: String) -> io::Error {
    io::Error::other(Changed { field, was, now })
}
