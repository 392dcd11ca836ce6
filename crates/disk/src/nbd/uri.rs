//! Addresses of NBD servers.
//!
//! ```text
//! nbd://host[:10809]/export      nbds://host/export (TLS)      nbd+unix:///export?socket=/run/nbd.sock
//! ```
//!
//! Facts: the NBD project's `doc/uri.md`.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port; 10809 by default.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// An export of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// Where the server listens.
    pub address: Address,
    /// Name of the export; empty for the server's default.
    pub export: String,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "nbds" } else { "nbd" };
        match &self.address {
            Address::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}/{}", self.export),
            Address::Unix(path) => write!(f, "{scheme}+unix:///{}?socket={}", self.export, path.display()),
        }
    }
}

impl std::str::FromStr for Uri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let (tls, unix) = match url.scheme() {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            other => return Err(format!("the scheme {other:?} is none of nbd, nbds and nbd+unix")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("NBD knows no user names".into());
        }
        let path = url.path().strip_prefix('/').unwrap_or_default();
        let export = percent_decode_str(path).decode_utf8().map_err(|_| "the export's name is not UTF-8")?.into_owned();
        let address = match unix {
            true => {
                let socket = url.query_pairs().find(|(key, _)| key == "socket");
                Address::Unix(socket.map(|(_, path)| PathBuf::from(path.as_ref())).ok_or("it has no ?socket=PATH")?)
            }
            false => {
                let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
                Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port: url.port().unwrap_or(10809) }
            }
        };
        Ok(Self { address, export, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let tcp = |host: &str, port, export: &str, tls| Uri {
            address: Address::Tcp { host: host.into(), port },
            export: export.into(),
            tls,
        };
        let parsed = |text: &str| text.parse::<Uri>();
        assert_eq!(parsed("nbd://example.com"), Ok(tcp("example.com", 10809, "", false)));
        assert_eq!(parsed("nbds://[::1]:99/a%20b/c"), Ok(tcp("::1", 99, "a b/c", true)));
        let unix = Uri { address: Address::Unix("/run/x y".into()), export: "e".into(), tls: false };
        assert_eq!(parsed("nbd+unix:///e?socket=/run/x%20y"), Ok(unix.clone()));
        assert_eq!(unix.to_string(), "nbd+unix:///e?socket=/run/x y");
        for wrong in ["nbd+unix:///e", "nbd:///e", "nbd://user@host/", "http://host/"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
