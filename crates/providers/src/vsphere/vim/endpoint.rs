//! How a server is reached and who asks.

use std::collections::BTreeMap;
use std::fmt;

use forklift_api::settings::parse_bool;

use reqwest::Url;

use super::VimError;

/// A password; shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities, or the server's own certificate, as PEM; none for those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// Take any certificate.
    pub insecure: bool,
    /// SHA-1 or SHA-256 of the certificate, hexadecimal with or without colons. Where there is one it alone decides.
    pub thumbprint: Option<String>,
}

impl Tls {
    /// Returns the rules as rustls has them, for connections of another client (disks).
    pub fn rules(&self) -> Result<rustls::ClientConfig, VimError> {
        super::tls::client_config(self)
    }
}

/// Connection parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the SDK, `https://vcenter.example/sdk`.
    pub url: Url,
    /// User, `administrator@vsphere.local`.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Whom to trust.
    pub tls: Tls,
}

impl Endpoint {
    /// Reads a provider's secret: `user`, `password`, `ca.crt` or `cacert`, `insecureSkipVerify`, `thumbprint`.
    pub fn from_secret(url: &str, secret: &BTreeMap<String, Vec<u8>>) -> Result<Self, VimError> {
        let text = |key: &str| secret.get(key).and_then(|value| std::str::from_utf8(value).ok());
        let needed = |key: &str| {
            let missing = || VimError::Parameters(format!("the secret has no `{key}`; add it"));
            text(key).filter(|value| !value.trim().is_empty()).ok_or_else(missing)
        };
        let filled = |key: &str| secret.get(key).filter(|value| !value.trim_ascii().is_empty());
        let is_true = |key: &str| text(key).is_some_and(|value| parse_bool(value.trim()) == Some(true));
        Ok(Self {
            url: sdk_url(url)?,
            user: needed("user")?.trim().to_owned(),
            // a line feed at the end comes from `echo`; blanks may be meant
            password: Secret::new(needed("password")?.trim_end_matches(['\r', '\n'])),
            tls: Tls {
                ca_pem: filled("ca.crt").or_else(|| filled("cacert")).cloned(),
                insecure: is_true("insecureSkipVerify"),
                thumbprint: filled("thumbprint").and_then(|_| text("thumbprint")).map(|value| value.trim().to_owned()),
            },
        })
    }

    /// Returns host and port, for messages.
    pub fn host(&self) -> String {
        host(&self.url)
    }
}

pub(super) fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.to_string(),
    }
}

/// Reads the address; without a path it is that of the SDK.
fn sdk_url(text: &str) -> Result<Url, VimError> {
    let invalid = |reason: &dyn fmt::Display| {
        VimError::Parameters(format!("{text} is not the address of a vSphere SDK: {reason}; write https://HOST/sdk"))
    };
    let mut url = Url::parse(text.trim()).map_err(|e| invalid(&e))?;
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        None => return Err(invalid(&"it has no host")),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err(invalid(&"the password would be sent unencrypted")),
        scheme => return Err(invalid(&format!("{scheme} is not HTTPS"))),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(&"user and password belong into the secret"));
    }
    if matches!(url.path(), "" | "/") {
        url.set_path("/sdk");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_secret_is_read_and_its_password_hidden() {
        let data = secret(&[
            ("user", " u\n"),
            ("password", " p w \n"),
            ("cacert", "PEM"),
            ("ca.crt", ""),
            ("insecureSkipVerify", "true"),
        ]);
        let endpoint = Endpoint::from_secret("https://vc.example", &data).expect("complete");
        assert_eq!(endpoint.url.as_str(), "https://vc.example/sdk");
        assert_eq!((endpoint.user.as_str(), endpoint.password.expose()), ("u", " p w "));
        assert_eq!(endpoint.tls, Tls { ca_pem: Some(b"PEM".to_vec()), insecure: true, thumbprint: None });
        assert!(!format!("{endpoint:?}").contains("p w"));
    }

    #[test]
    fn what_is_missing_or_unsafe_is_refused() {
        let data = secret(&[("user", "u"), ("password", "p")]);
        for (url, reason) in [
            ("vc.example", "is not the address"),
            ("ftp://vc.example/sdk", "ftp is not HTTPS"),
            ("http://vc.example/sdk", "unencrypted"),
            ("https://a:b@vc.example/sdk", "belong into the secret"),
        ] {
            let error = Endpoint::from_secret(url, &data).expect_err(url).to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(Endpoint::from_secret("http://127.0.0.1:8989/sdk", &data).is_ok());
        let error = Endpoint::from_secret("https://vc", &secret(&[("user", "u")])).expect_err("no password");
        assert_eq!(error.to_string(), "the secret has no `password`; add it");
    }
}
