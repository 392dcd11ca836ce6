//! A server's own certificate, as it shows it in the handshake.
//!
//! Nothing is sent but the handshake, and nothing is trusted: the certificate is for a person to look at, or to compare
//! with what somebody said it should be.
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;

use crate::vsphere::vim;

/// Why a certificate could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The address is not `https://host[:port]…`.
    #[error("{0:?} is not an https address")]
    Address(String),
    /// Nobody there speaks TLS as we do.
    #[error("{0}")]
    Unreachable(String),
}

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf(Vec<u8>);

impl Leaf {
    /// Takes a certificate in DER.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self(der.into())
    }

    /// Returns the certificate as PEM, lines of 64 characters.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.0);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Returns the SHA-1 thumbprint as vSphere writes it: upper case hexadecimal with colons.
    pub fn thumbprint(&self) -> String {
        vim::thumbprints(&self.0).sha1
    }
}

/// Returns the certificate that the server of an https address shows.
pub async fn leaf(url: &str, patience: Duration) -> Result<Leaf, LeafError> {
    let parsed = Url::parse(url.trim()).ok().filter(|parsed| parsed.scheme() == "https" && parsed.has_host());
    let parsed = parsed.ok_or_else(|| LeafError::Address(url.to_owned()))?;
    match vim::peer_certificate(&parsed, patience).await {
        Ok(der) => Ok(Leaf(der)),
        Err(error) => Err(LeafError::Unreachable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn only_https_addresses_are_dialled() {
        for wrong in ["", "vcenter", "http://vcenter/sdk", "ldaps://vcenter", "https://", "file:///etc/passwd"] {
            assert_eq!(leaf(wrong, SOON).await, Err(LeafError::Address(wrong.to_owned())), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_does_not_speak_tls_has_no_certificate() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 smtp\r\n").await.expect("is written");
        });
        let url = format!("https://127.0.0.1:{port}/sdk");
        assert!(matches!(leaf(&url, SOON).await, Err(LeafError::Unreachable(why)) if why.contains("TLS")));
        plain.await.expect("no panic");
        assert!(matches!(leaf(&url, SOON).await, Err(LeafError::Unreachable(..))));
    }

    #[test]
    fn thumbprints_and_pem_are_written_as_others_do() {
        let leaf = Leaf::from_der(*b"abc");
        assert_eq!(leaf.thumbprint(), "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D");
        assert_eq!(leaf.pem(), "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n");
    }
}
