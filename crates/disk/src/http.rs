//! Images behind HTTP and HTTPS: byte ranges, by several connections at once.
//!
//! ```text
//! open   GET Range: bytes=0-0 ─► 206 Content-Range: bytes 0-0/SIZE, ETag      ranges
//!                             ─► 200 Content-Length                           no ranges: forwards only
//! read   GET Range: bytes=A-B, If-Range: ETag ─► 206 of the same ETag ─► bytes
//!                                             ─► 200, another ETag or size    the source changed: refused
//! ```
//!
//! Redirects are followed by us: headers with secrets go to the host they are meant for only, and a
//! redirect from HTTPS to HTTP is refused. A body that breaks off is gone on with from where it was.
//!
//! Facts: RFC 9110, sections 13 to 15. The client is ureq: blocking as this crate is, with the TLS
//! of the workspace.

mod tls;

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, Body};
use url::Url;

use crate::error::{Error, Result};
use crate::forward::Forward;
use crate::place::{Place, is_file_name, not_beside};
use crate::remote::{Access, Login, changed};
use crate::source::Source;

/// The first pause before a busy server is asked again, doubled each time.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const BUSY_LONGEST: Duration = Duration::from_millis(400);
/// The most redirects that are followed.
const REDIRECTS: usize = 8;
/// The longest wait for a connection, and for the next bytes of an answer.
const CONNECT: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(60);

/// A client with its settings; sources of one disk share its connections.
#[derive(Clone)]
pub struct Http {
    agent: Agent,
    headers: Arc<[(String, String)]>,
    login: Option<Arc<dyn Login>>,
    /// The URL of the disk: headers with secrets go to its host only.
    origin: Url,
}

/// What an answer says of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    length: u64,
    etag: Option<String>,
    modified: Option<String>,
}

/// A file behind a URL.
pub struct HttpSource {
    http: Http,
    url: Url,
    name: String,
    identity: Identity,
    /// Where redirects led; asked first, and forgotten when it does not answer any more.
    place: Mutex<Option<Url>>,
    /// What a server without ranges is read with.
    forward: Option<Forward>,
}

/// Returns the URL as messages show it: a query may hold a signature.
pub(crate) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = (shown.set_username(""), shown.set_password(None));
    if shown.query().is_some() {
        shown.set_query(Some("…"));
    }
    shown.fragment().is_some().then(|| shown.set_fragment(None));
    shown.to_string().replace("%E2%80%A6", "…")
}

impl Http {
    /// Makes a client for a disk at `url`.
    pub fn new(url: &Url, access: &Access) -> Result<Self> {
        let unsupported = |what: &str| Err(Error::Unsupported { path: shown(url), what: what.into() });
        if !url.username().is_empty() || url.password().is_some() {
            // a command line is seen by all users of a machine
            return unsupported("credentials in a URL: put them into a file of headers (Authorization: Basic …)");
        }
        if url.host_str().is_none() {
            return unsupported("a URL without a host");
        }
        let unreadable = |source| Error::Source { path: shown(url), offset: 0, source };
        let headers = access.headers().map_err(unreadable)?.into();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent("forklift")
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(ANSWER));
        let login = access.login.clone();
        if let Some(rules) = &access.tls {
            let connector = ().chain(TcpConnector::default()).chain(tls::TlsConnector(rules.clone()));
            let agent = Agent::with_parts(config.build(), connector, DefaultResolver::default());
            return Ok(Self { agent, headers, login, origin: url.clone() });
        }
        if url.scheme() == "https" {
            let found = access.authorities().map_err(unreadable)?;
            let roots: Vec<Certificate<'static>> =
                found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .root_certs(RootCerts::new_with_certs(&roots))
                .disable_verification(access.insecure)
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self { agent: config.build().new_agent(), headers, login, origin: url.clone() })
    }

    /// Sends a GET, follows redirects, asks a busy server again a few times (what reads tables while a disk is opened has
    /// no patience of its own); returns the answer and the URL that gave it.
    fn get(&self, url: &Url, headers: &[(&str, String)]) -> io::Result<(Response<Body>, Url)> {
        let mut pause = BUSY_PAUSE;
        loop {
            let (response, place) = self.get_once(url, headers)?;
            let busy = status_error(response.status()).kind() == ErrorKind::ResourceBusy;
            if !busy || pause > BUSY_LONGEST {
                return Ok((response, place));
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    /// Sends a GET; one that is refused with the headers of a session is sent again with those of a new one.
    fn get_once(&self, url: &Url, headers: &[(&str, String)]) -> io::Result<(Response<Body>, Url)> {
        let Some(login) = &self.login else {
            return self.follow(url, headers, &[]);
        };
        let (response, place) = self.follow(url, headers, &login.headers(false)?)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok((response, place));
        }
        self.follow(url, headers, &login.headers(true)?)
    }

    /// Begins an answer whose length nobody knows: only its own end tells that it is whole.
    pub fn stream(&self, url: &Url) -> io::Result<Box<dyn Read + Send>> {
        let (response, _) = self.get(url, &[])?;
        if response.status() != StatusCode::OK {
            return Err(status_error(response.status()));
        }
        Ok(Box::new(Endless(response.into_body().into_reader())))
    }

    fn follow(
        &self,
        url: &Url,
        headers: &[(&str, String)],
        session: &[(String, String)],
    ) -> io::Result<(Response<Body>, Url)> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(url.as_str());
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if url.origin() == self.origin.origin() {
                for (name, value) in self.headers.iter().chain(session) {
                    request = request.header(name, value);
                }
            }
            let response = request.call().map_err(io_error)?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok((response, url));
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            let next = next.ok_or_else(|| refused(format!("{} without a usable location", response.status())))?;
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(refused("a redirect from https to http".into()));
            }
            url = next;
        }
        Err(refused(format!("more than {REDIRECTS} redirects")))
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, what)
}

/// What ureq says, as an error whose kind tells whether to try again.
fn io_error(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Io(error) => lost(error),
        ureq::Error::Timeout(what) => io::Error::new(ErrorKind::TimedOut, format!("no answer in time ({what})")),
        ureq::Error::HostNotFound => io::Error::new(ErrorKind::NotFound, "the host is not known"),
        ureq::Error::Protocol(error) => io::Error::new(ErrorKind::ConnectionAborted, error.to_string()),
        other => io::Error::other(other.to_string()),
    }
}

/// A body that ends early is a lost connection.
fn lost(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(ErrorKind::ConnectionAborted, "the server ended the answer early"),
        _ => error,
    }
}

/// Answers that are no bytes.
fn status_error(status: StatusCode) -> io::Error {
    let kind = match status.as_u16() {
        401 | 403 => ErrorKind::PermissionDenied,
        404 | 410 => ErrorKind::NotFound,
        // overload and gateways: another try may find them well
        408 | 425 | 429 | 500 | 502 | 503 | 504 => ErrorKind::ResourceBusy,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, format!("the server answers {status}"))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.trim().to_owned())
}

/// Parses `bytes 0-99/1234`: first, last, length of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let value = text(headers, header::CONTENT_RANGE)?;
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, length.parse().ok()?))
}

impl Identity {
    fn of(headers: &HeaderMap, length: u64) -> Self {
        Self { length, etag: text(headers, header::ETAG), modified: text(headers, header::LAST_MODIFIED) }
    }

    /// Refuses an answer about another state of the file.
    fn check(&self, now: &Self) -> io::Result<()> {
        if self.length != now.length {
            return Err(changed("size", self.length.to_string(), now.length.to_string()));
        }
        let differs = |was: &Option<String>, now: &Option<String>| {
            was.as_ref().zip(now.as_ref()).filter(|(was, now)| was != now).map(|(was, now)| (was.clone(), now.clone()))
        };
        // with an ETag the time says nothing more: mirrors differ in it
        if let Some((was, now)) = differs(&self.etag, &now.etag) {
            return Err(changed("ETag", was, now));
        }
        match differs(&self.modified, &now.modified).filter(|_| self.etag.is_none()) {
            Some((was, now)) => Err(changed("Last-Modified", was, now)),
            None => Ok(()),
        }
    }

    /// What makes a server send the whole file instead of a range of another state.
    fn condition(&self) -> Option<String> {
        match &self.etag {
            // a weak one may not be compared byte for byte
            Some(etag) if !etag.starts_with("W/") => Some(etag.clone()),
            Some(_) => None,
            None => self.modified.clone(),
        }
    }
}

impl HttpSource {
    /// Opens the file at `url`.
    pub fn open(http: Http, url: Url) -> Result<Self> {
        let name = shown(&url);
        let opened = probe(&http, &url).map_err(|source| match source.kind() {
            ErrorKind::Unsupported => Error::Unsupported { path: name.clone(), what: source.to_string() },
            _ => Error::Source { path: name.clone(), offset: 0, source },
        });
        let (identity, ranges, place) = opened?;
        let forward = (!ranges).then(Forward::default);
        Ok(Self { http, url, name, identity, place: Mutex::new(Some(place)), forward })
    }

    fn fetch(&self, headers: &[(&str, String)]) -> io::Result<Response<Body>> {
        let lock = || self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let place = lock().clone();
        if let Some(place) = place {
            let (response, _) = self.http.get(&place, headers)?;
            // where a redirect led may have been good for a while only
            if place == self.url
                || !response.status().is_client_error()
                || response.status() == StatusCode::RANGE_NOT_SATISFIABLE
            {
                return Ok(response);
            }
        }
        let (response, place) = self.http.get(&self.url, headers)?;
        *lock() = Some(place);
        Ok(response)
    }

    /// Reads a range; returns how many bytes came, and why not all of them did.
    fn read_range(&self, buf: &mut [u8], offset: u64) -> (usize, io::Result<()>) {
        let last = offset + buf.len() as u64 - 1;
        let mut headers = vec![("range", format!("bytes={offset}-{last}"))];
        headers.extend(self.identity.condition().map(|condition| ("if-range", condition)));
        let mut response = match self.fetch(&headers).and_then(|response| self.check(response, offset, last)) {
            Ok(response) => response,
            Err(error) => return (0, Err(error)),
        };
        let mut body = response.body_mut().as_reader();
        let mut done = 0;
        while done < buf.len() {
            match body.read(&mut buf[done..]) {
                Ok(0) => return (done, Err(lost(ErrorKind::UnexpectedEof.into()))),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (done, Err(lost(body_error(error)))),
            }
        }
        // read to its end, a connection is kept for the next request
        let _ = body.read(&mut [0]);
        (done, Ok(()))
    }

    fn check(&self, response: Response<Body>, offset: u64, last: u64) -> io::Result<Response<Body>> {
        let headers = response.headers();
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(headers);
                let (first, end, length) =
                    range.ok_or_else(|| refused("an answer without a usable Content-Range".into()))?;
                self.identity.check(&Identity::of(headers, length))?;
                if (first, end) != (offset, last) {
                    return Err(refused(format!("bytes {first} to {end} instead of {offset} to {last}")));
                }
                Ok(response)
            }
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
                let length = response.body().content_length().unwrap_or(0);
                self.identity.check(&Identity::of(headers, length))?;
                Err(refused("the server does not give ranges any more".into()))
            }
            status => Err(status_error(status)),
        }
    }

    /// Begins the whole file, for a server without ranges.
    fn start(&self) -> io::Result<Box<dyn Read + Send>> {
        let response = self.fetch(&[])?;
        if response.status() != StatusCode::OK {
            return Err(status_error(response.status()));
        }
        let length = response.body().content_length().unwrap_or(self.identity.length);
        self.identity.check(&Identity::of(response.headers(), length))?;
        Ok(Box::new(Whole { body: response.into_body().into_reader(), left: self.identity.length }))
    }
}

fn body_error(error: io::Error) -> io::Error {
    // ureq wraps its own errors
    match error.downcast::<ureq::Error>() {
        Ok(error) => io_error(error),
        Err(error) => error,
    }
}

/// The body of a whole file: its early end is an error.
struct Whole<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let limit = self.left.min(buf.len() as u64) as usize;
        let Some(part) = buf.get_mut(..limit).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        match self.body.read(part) {
            Ok(0) => Err(lost(ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => Err(lost(body_error(error))),
        }
    }
}

/// The body of an answer without a length.
struct Endless<R>(R);

impl<R: Read> Read for Endless<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|error| lost(body_error(error)))
    }
}

/// Asks for one byte: returns what the file is, whether the server gives ranges, and who answered.
fn probe(http: &Http, url: &Url) -> io::Result<(Identity, bool, Url)> {
    let (response, place) = http.get(url, &[("range", "bytes=0-0".into())])?;
    let headers = response.headers();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => match content_range(headers) {
            Some((0, 0, length)) => Ok((Identity::of(headers, length), true, place)),
            _ => Err(refused("a server that does not say how long the file is".into())),
        },
        StatusCode::OK => match response.body().content_length() {
            Some(length) => Ok((Identity::of(headers, length), false, place)),
            None => Err(refused("a server without ranges that does not say how long the file is".into())),
        },
        // an empty file has no first byte
        StatusCode::RANGE_NOT_SATISFIABLE => Ok((Identity::of(headers, 0), true, place)),
        status => Err(status_error(status)),
    }
}

impl Source for HttpSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.identity.length)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.identity.length) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if let Some(forward) = &self.forward {
            return forward.read_at(buf, offset, || self.start());
        }
        let mut done = 0;
        while done < buf.len() {
            match self.read_range(&mut buf[done..], offset + done as u64) {
                (count, Ok(())) => done += count,
                // what came is not asked for again
                (count, Err(error)) if count > 0 => {
                    tracing::warn!(source = self.name, offset = offset + (done + count) as u64, %error, "the answer broke off");
                    done += count;
                }
                (_, Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn sequential(&self) -> bool {
        self.forward.is_some()
    }

    fn pin(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        match &self.forward {
            Some(forward) => forward.pin(ranges, self.identity.length, |buf, at| self.read_at(buf, at)),
            None => Ok(()),
        }
    }

    fn stamp(&self) -> io::Result<String> {
        let (now, ..) = probe(&self.http, &self.url)?;
        let version = now.etag.or(now.modified).unwrap_or_default();
        Ok(format!("http:{}:{version}", now.length))
    }
}

/// A URL that gives one stream from front to back, without ranges or a length.
pub struct Export {
    http: Http,
    url: Url,
    name: String,
}

impl Export {
    /// Returns the stream of a URL.
    pub fn new(url: Url, access: &Access) -> Result<Self> {
        Ok(Self { http: Http::new(&url, access)?, name: shown(&url), url })
    }
}

impl crate::stream::Export for Export {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self) -> io::Result<Box<dyn Read + Send>> {
        self.http.stream(&self.url)
    }

    fn stamp(&self) -> io::Result<String> {
        // nobody tells its state: the URL of an export is new for each
        Ok(format!("stream:{}", self.name))
    }
}

/// The folder of a URL.
pub struct Folder {
    http: Http,
    url: Url,
}

impl Folder {
    /// Returns the folder that the file at `url` lies in.
    pub fn of(http: Http, url: Url) -> Self {
        Self { http, url }
    }
}

impl Place for Folder {
    fn sibling(&self, name: &str) -> Result<Arc<dyn Source>> {
        let mut url = self.url.clone();
        let segments = url.path_segments_mut().map(|mut segments| {
            segments.pop().push(name);
        });
        if !is_file_name(name) || segments.is_err() {
            return Err(not_beside(&shown(&self.url), name));
        }
        open(self.http.clone(), url)
    }
}

/// Opens a file with a cache for its tables.
pub fn open(http: Http, url: Url) -> Result<Arc<dyn Source>> {
    let source = HttpSource::open(http, url)?;
    if source.sequential() {
        return Ok(Arc::new(source));
    }
    let name = source.name.clone();
    let cached = crate::cache::Cached::new(Arc::new(source));
    Ok(Arc::new(cached.map_err(|source| Error::Source { path: name, offset: 0, source })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_no_secrets() {
        let url = Url::parse("https://user:pass@host:8443/a/b.vmdk?X-Signature=abc#f").expect("parses");
        assert_eq!(shown(&url), "https://host:8443/a/b.vmdk?…");
        let access = Access::default().with_header("Authorization", "Bearer abc");
        assert!(!format!("{access:?}").contains("abc"));
        assert!(Http::new(&url, &access).is_err_and(|error| !error.to_string().contains("pass")));
    }

    #[test]
    fn states_are_compared_by_what_both_tell() {
        let state = |length, etag: Option<&str>, modified: Option<&str>| Identity {
            length,
            etag: etag.map(Into::into),
            modified: modified.map(Into::into),
        };
        let was = state(5, Some("\"a\""), Some("Mon"));
        assert!(was.check(&state(5, Some("\"a\""), Some("Tue"))).is_ok());
        assert!(was.check(&state(5, None, None)).is_ok());
        for now in [state(6, Some("\"a\""), None), state(5, Some("\"b\""), None)] {
            assert!(was.check(&now).is_err());
        }
        assert!(state(5, None, Some("Mon")).check(&state(5, None, Some("Tue"))).is_err());
        assert_eq!(was.condition().as_deref(), Some("\"a\""));
        assert_eq!(state(5, Some("W/\"a\""), Some("Mon")).condition(), None);
    }
}
