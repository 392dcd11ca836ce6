//! The server's own certificate authority and the certificates it issues.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The authority; its key stays in the data directory.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    key: String,
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let describe = || format!("cannot write {}", path.display());
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(describe)?;
    file.write_all(content.as_bytes()).with_context(describe)?;
    file.sync_all().with_context(describe)?;
    std::fs::rename(&temporary, path).with_context(describe)
}

/// The file's text, or what `make` returns, which is then kept.
pub fn keep(path: PathBuf, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            write_private(&path, &text)?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

impl Authority {
    /// Loads the authority from the directory, or makes one.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let key = keep(dir.join("ca.key"), || Ok(KeyPair::generate()?.serialize_pem()))?;
        let pair = KeyPair::from_pem(&key).with_context(|| format!("{} is damaged", dir.join("ca.key").display()))?;
        let pem = keep(dir.join("ca.crt"), || Ok(Self::params().self_signed(&pair)?.pem()))?;
        Ok(Self { pem, key })
    }

    /// The same at every start, so that certificates can be issued without reading the authority's own back.
    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "embedded-api-server-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params
    }

    /// Issues a client certificate, valid for `days`: the user is its common name, the group its organisation (the
    /// certificates that are made here carry one; certificates of others may carry more).
    pub fn issue_client(&self, user: &str, group: Option<&str>, days: u16) -> anyhow::Result<(String, String)> {
        let ca_key = KeyPair::from_pem(&self.key)?;
        let issuer = Issuer::new(Self::params(), ca_key);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let now = jiff::Timestamp::now();
        let day = |offset: i64| -> anyhow::Result<_> {
            let date = (now + jiff::SignedDuration::from_hours(24 * offset)).to_zoned(jiff::tz::TimeZone::UTC).date();
            Ok(rcgen::date_time_ymd(date.year().into(), u8::try_from(date.month())?, u8::try_from(date.day())?))
        };
        params.not_before = day(-1)?;
        params.not_after = day(i64::from(days) + 1)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Issues a serving certificate for DNS names and addresses: certificate (PEM) and key (PEM).
    pub fn issue(&self, names: &[String]) -> anyhow::Result<(String, String)> {
        let ca_key = KeyPair::from_pem(&self.key)?;
        let issuer = Issuer::new(Self::params(), ca_key);
        let mut params = CertificateParams::new(names.to_vec()).context("cannot make a certificate for these names")?;
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("server", String::as_str));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Server side of TLS with h2 and HTTP/1.1; clients may show a certificate of one of `client_authorities` (PEM).
pub fn server_config(certificate: &str, key: &str, client_authorities: &str) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the serving certificate is damaged")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the serving key is damaged")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(client_authorities.as_bytes()) {
        roots.add(authority.context("a client authority's certificate is damaged")?)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .context("cannot check client certificates with these authorities")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
