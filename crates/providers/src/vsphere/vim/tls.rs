//! Whom a client trusts: authorities, one certificate by its thumbprint, or anyone; and what to do when TLS fails.
//!
//! A bundle may also hold the server's own certificate, which is what "fetch certificate" in the console puts there:
//! such a certificate is trusted for its names, although it is no authority. ESXi's self-signed certificates need it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha1::Digest;
use tokio::net::TcpStream;

use super::endpoint::host;
use super::{Tls, VimError};

/// Thumbprints of a certificate, upper case with colons, as VMware shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbprints {
    /// SHA-1, 20 bytes: what VDDK and libvirt want.
    pub sha1: String,
    /// SHA-256, 32 bytes.
    pub sha256: String,
}

/// Returns the thumbprints of a certificate in DER.
pub fn thumbprints(der: &[u8]) -> Thumbprints {
    let show = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    Thumbprints { sha1: show(&sha1::Sha1::digest(der)), sha256: show(&sha2::Sha256::digest(der)) }
}

/// Returns the certificate (DER) that a server shows, whoever signed it.
pub async fn peer_certificate(url: &Url, limit: Duration) -> Result<Vec<u8>, VimError> {
    shown_certificate(url, client_config(&Tls { insecure: true, ..Tls::default() })?, limit).await
}

/// Returns the certificate (DER) that a server shows, where it is trusted by these rules.
pub async fn trusted_certificate(url: &Url, tls: &Tls, limit: Duration) -> Result<Vec<u8>, VimError> {
    shown_certificate(url, client_config(tls)?, limit).await
}

async fn shown_certificate(url: &Url, config: ClientConfig, limit: Duration) -> Result<Vec<u8>, VimError> {
    let address =
        (url.host_str().unwrap_or_default().trim_matches(['[', ']']), url.port_or_known_default().unwrap_or(443));
    let name = ServerName::try_from(address.0.to_owned())
        .map_err(|e| VimError::Parameters(format!("{} is no host name: {e}", address.0)))?;
    let unreachable =
        |reason: &dyn std::fmt::Display| VimError::Unreachable { host: host(url), reason: reason.to_string() };
    let shaken = async {
        let stream = TcpStream::connect(address).await.map_err(|e| unreachable(&e))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.map_err(|e| failure(&e, url).unwrap_or_else(|| unreachable(&e)))
    };
    let stream = tokio::time::timeout(limit, shaken)
        .await
        .map_err(|_| unreachable(&format!("no TLS within {} s", limit.as_secs())))??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    chain.first().map(|leaf| leaf.to_vec()).ok_or_else(|| unreachable(&"it shows no certificate"))
}

/// Returns the TLS side of a client.
pub(super) fn client_config(tls: &Tls) -> Result<ClientConfig, VimError> {
    let provider = Arc::new(ring::default_provider());
    let trust = Trust::of(tls, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| VimError::Parameters(format!("TLS cannot be set up: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the TLS error within an error, where there is one.
pub(super) fn failure(error: &(dyn std::error::Error + 'static), url: &Url) -> Option<VimError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(VimError::Tls { host: host(url), reason: tls.to_string(), hint: hint(tls).to_owned() });
        }
        // what an I/O error wraps is not its source, and they are wrapped in each other
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What a person can do about it.
fn hint(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "use a host name that the certificate has in the URL, or pin the certificate by its thumbprint"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "renew the server's certificate, check the clocks, or pin the certificate by its thumbprint"
            }
            CertificateError::ApplicationVerificationFailure => {
                "the server's certificate is another one than the pinned: check that it was renewed on purpose, then \
                 set the new thumbprint"
            }
            _ => {
                "put the authority's certificate or the server's own into the secret as `ca.crt`, or set \
                 `insecureSkipVerify` to true"
            }
        },
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity,
        ) => {
            "the server seems to speak only TLS 1.0/1.1 or old ciphers: switch TLS 1.2 on there (ESXi and vCenter 6.5 \
             and later have it)"
        }
        Error::InvalidMessage(_) => "check the port: what answers there does not speak TLS",
        _ => "check address, port and what is between",
    }
}

#[derive(Debug)]
enum Trust {
    Anyone,
    /// SHA-1 or SHA-256 of the certificate.
    Pinned(Vec<u8>),
    Bundle {
        /// `None` where no certificate of the bundle can be an authority.
        authorities: Option<Arc<WebPkiServerVerifier>>,
        own: Vec<CertificateDer<'static>>,
    },
}

impl Trust {
    fn of(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Self, VimError> {
        if let Some(thumbprint) = &tls.thumbprint {
            return Ok(Self::Pinned(parse_thumbprint(thumbprint)?));
        }
        if tls.insecure {
            return Ok(Self::Anyone);
        }
        let mut roots = RootCertStore::empty();
        let mut own = Vec::new();
        match &tls.ca_pem {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate
                        .map_err(|e| VimError::Parameters(format!("`ca.crt` of the secret is no PEM file: {e}")))?;
                    // what cannot be an authority may be the server's own
                    let _ = roots.add(certificate.clone());
                    own.push(certificate);
                }
                if own.is_empty() {
                    let text = "`ca.crt` of the secret holds no certificate; it must be PEM, BEGIN CERTIFICATE";
                    return Err(VimError::Parameters(text.to_owned()));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let authorities = (!roots.is_empty())
            .then(|| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build())
            .transpose()
            .map_err(|e| VimError::Parameters(format!("`ca.crt` of the secret cannot be used: {e}")))?;
        Ok(Self::Bundle { authorities, own })
    }
}

fn parse_thumbprint(text: &str) -> Result<Vec<u8>, VimError> {
    let invalid = || {
        VimError::Parameters(format!(
            "{text:?} is no thumbprint: it has 20 (SHA-1) or 32 (SHA-256) bytes in hexadecimal"
        ))
    };
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' ' | '-'))
        .map(|c| c.to_digit(16).ok_or_else(invalid))
        .collect::<Result<_, _>>()?;
    if !matches!(digits.len(), 40 | 64) {
        return Err(invalid());
    }
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0u8, |byte, digit| (byte << 4) | (*digit as u8))).collect())
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anyone => Ok(ServerCertVerified::assertion()),
            Trust::Pinned(wanted) => {
                let same = match wanted.len() {
                    20 => sha1::Sha1::digest(leaf).as_slice() == wanted,
                    _ => sha2::Sha256::digest(leaf).as_slice() == wanted,
                };
                let other = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
                if same { Ok(ServerCertVerified::assertion()) } else { Err(other) }
            }
            Trust::Bundle { own, .. } if own.iter().any(|certificate| certificate == leaf) => {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            Trust::Bundle { authorities: Some(authorities), .. } => {
                authorities.verify_server_cert(leaf, chain, name, ocsp, now)
            }
            Trust::Bundle { authorities: None, .. } => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprints_in_the_ways_people_write_them() {
        let shown = thumbprints(b"certificate");
        assert_eq!((shown.sha1.len(), shown.sha256.len()), (59, 95));
        let bytes = parse_thumbprint(&shown.sha1).expect("SHA-1");
        assert_eq!(parse_thumbprint(&shown.sha1.replace(':', "").to_lowercase()), Ok(bytes.clone()));
        assert_eq!(bytes, sha1::Sha1::digest(b"certificate").to_vec());
        assert_eq!(parse_thumbprint(&shown.sha256).map(|b| b.len()), Ok(32));
        for wrong in ["", "AB:CD", "x".repeat(40).as_str()] {
            assert!(parse_thumbprint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn old_servers_get_their_hint() {
        let alert = Error::AlertReceived(AlertDescription::ProtocolVersion);
        let wrapped = std::io::Error::other(std::io::Error::new(std::io::ErrorKind::InvalidData, alert));
        let url = Url::parse("https://old:444/sdk").expect("a URL");
        let text = failure(&wrapped, &url).expect("a TLS error").to_string();
        assert!(text.starts_with("no TLS connection to old:444: ") && text.contains("only TLS 1.0/1.1"), "{text}");
        assert!(failure(&std::io::Error::other(wrapped), &url).is_some(), "as reqwest wraps it");
        assert_eq!(failure(&std::io::Error::other("else"), &url), None);
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        let tls = Tls { ca_pem: Some(b"nothing".to_vec()), ..Tls::default() };
        let error = client_config(&tls).expect_err("no certificate").to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
