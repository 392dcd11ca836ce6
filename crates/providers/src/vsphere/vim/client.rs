//! One session with a server: calls, the cookie, and one new login when the session is gone.
//!
//! ```text
//!   connect ──► call ──► answer
//!                │ NotAuthenticated
//!                ▼
//!              login (one at a time; those who waited go on with it) ──► the call again ──► answer or fault
//!                │ InvalidLogin
//!                ▼
//!              refused: no later call asks again, so that no account is locked
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{COOKIE, HeaderValue, SET_COOKIE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::watch;

use super::endpoint::host;
use super::xml::envelope;
use super::{About, Arg, Bounds, Content, Element, Endpoint, Fault, MoRef, VimError, session, tls};

/// How long an ordinary call may take. Creating a filter over 10,000 VMs takes a vCenter tens of seconds.
const CALL: Duration = Duration::from_secs(180);
/// How large an answer may be.
const MAX_ANSWER: usize = 256 << 20;
/// Answers from this size on are parsed beside the runtime's threads.
const LARGE: usize = 1 << 20;
/// What the program calls itself; a server's list of sessions shows it.
pub(super) const AGENT: &str = "forklift";
/// The version that every server from 6.5 on speaks.
const OLDEST: &str = "6.5";

/// One session; cheap to clone. Logs out when the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    endpoint: Endpoint,
    http: reqwest::Client,
    version: String,
    about: About,
    content: Content,
    /// Counts the logins; who finds another number than before knows that somebody logged in meanwhile.
    epoch: watch::Sender<u64>,
    logging_in: tokio::sync::Mutex<()>,
    refused: Mutex<Option<Fault>>,
    cookie: RwLock<Option<HeaderValue>>,
    /// Key and user as the server knows them.
    user_session: Mutex<(String, String)>,
    closed: AtomicBool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.inner.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the service content, then logs in. The session is kept alive until it is logged out or dropped.
    pub async fn connect(endpoint: &Endpoint) -> Result<Client, VimError> {
        let client = Self::look(endpoint).await?;
        let inner = client.inner.clone();
        // Taken to its end even where nobody waits for it any more: a session that the server has opened and nobody
        // knows of would stay open for half an hour. The last clone logs out.
        tokio::spawn(async move { inner.login().await }).await.map_err(|error| {
            VimError::Parameters(format!("the login at {} broke off: {error}", client.inner.endpoint.host()))
        })??;
        session::keep_alive(&client.inner);
        Ok(client)
    }

    /// Reads the service content without logging in: what a server says of itself to anybody.
    pub async fn look(endpoint: &Endpoint) -> Result<Client, VimError> {
        let http = http_client(endpoint)?;
        let url = &endpoint.url;
        let version = version(&http, url).await?;
        let this = MoRef::new("ServiceInstance", "ServiceInstance");
        let body = envelope("RetrieveServiceContent", &this, &[]);
        let (answer, cookie) = post(&http, url, &version, None, body, CALL).await?;
        let found = answer.get("returnval").ok_or_else(|| VimError::Malformed {
            what: format!("the service content of {}", host(url)),
            reason: "it is empty".to_owned(),
        })?;
        let inner = Inner {
            endpoint: endpoint.clone(),
            http,
            version,
            about: found.get("about").map(About::read).unwrap_or_default(),
            content: Content::read(found)?,
            epoch: watch::Sender::new(0),
            logging_in: tokio::sync::Mutex::new(()),
            refused: Mutex::new(None),
            cookie: RwLock::new(cookie),
            user_session: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ends the session; later calls fail.
    pub async fn logout(&self) {
        self.inner.logout().await;
    }

    /// Returns who the server is.
    pub fn about(&self) -> &About {
        &self.inner.about
    }

    /// Returns the server's managers.
    pub fn content(&self) -> &Content {
        &self.inner.content
    }

    /// Returns the connection parameters.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Calls a method; returns the element `…Response`, whose children `returnval` are what it returns.
    pub async fn call(&self, method: &str, this: &MoRef, args: &[Arg]) -> Result<Element, VimError> {
        self.call_within(method, this, args, CALL).await
    }

    /// Calls a method that may take longer than usual (long polls).
    pub async fn call_within(
        &self,
        method: &str,
        this: &MoRef,
        args: &[Arg],
        limit: Duration,
    ) -> Result<Element, VimError> {
        self.inner.call(method, this, args, limit).await
    }

    /// Returns an HTTP client with the same TLS rules, and no cookie of its own: see [`Client::request`].
    pub fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }

    /// Returns a request to this server (datastore files, leases) with the session's cookie, or to another host
    /// without it.
    pub fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let ours = url.host() == self.inner.endpoint.url.host()
            && url.port_or_known_default() == self.inner.endpoint.url.port_or_known_default();
        let request = self.inner.http.request(method, url);
        match self.session_cookie() {
            Some(cookie) if ours => request.header(COOKIE, cookie),
            _ => request,
        }
    }

    /// Returns the value of the header `Cookie` that belongs to the session. To be shown nowhere.
    pub fn session_cookie(&self) -> Option<HeaderValue> {
        self.inner.cookie()
    }

    /// Returns whether the session was ended with [`Client::logout`].
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Returns the refusal when a new login was refused: no later call logs in.
    pub fn refusal(&self) -> Option<Fault> {
        self.inner.refused()
    }

    pub(super) fn shared(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Returns a number that is another one after each login: what was made in the session (collectors, filters,
    /// leases) is gone when it changed.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    /// Returns the same number, for whoever waits for another login.
    pub fn logins(&self) -> watch::Receiver<u64> {
        self.inner.epoch.subscribe()
    }
}

impl Inner {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn user_session(&self) -> (String, String) {
        self.user_session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }

    fn cookie(&self) -> Option<HeaderValue> {
        self.cookie.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused(&self) -> Option<Fault> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn call(
        &self,
        method: &str,
        this: &MoRef,
        args: &[Arg],
        limit: Duration,
    ) -> Result<Element, VimError> {
        if self.is_closed() {
            return Err(VimError::Parameters(format!("the session with {} was ended", self.endpoint.host())));
        }
        let epoch = self.epoch();
        match self.post(method, this, args, limit).await {
            Err(error) if error.is_fault("NotAuthenticated") => {
                self.login_again(epoch).await?;
                self.post(method, this, args, limit).await
            }
            answer => answer,
        }
    }

    /// Calls without a new login.
    pub(super) async fn post(
        &self,
        method: &str,
        this: &MoRef,
        args: &[Arg],
        limit: Duration,
    ) -> Result<Element, VimError> {
        tracing::trace!(method, %this, "vSphere call");
        let body = envelope(method, this, args);
        let (answer, _) = post(&self.http, &self.endpoint.url, &self.version, self.cookie(), body, limit).await?;
        Ok(answer)
    }

    /// Logs in for a caller that found its session gone, unless somebody else did meanwhile.
    async fn login_again(&self, epoch: u64) -> Result<(), VimError> {
        let _turn = self.logging_in.lock().await;
        if self.epoch() != epoch {
            return Ok(());
        }
        tracing::debug!(host = self.endpoint.host(), "the session is gone; logging in again");
        self.login().await
    }

    async fn login(&self) -> Result<(), VimError> {
        if let Some(fault) = self.refused() {
            return Err(VimError::InvalidLogin(fault));
        }
        let args = [
            Arg::text("userName", self.endpoint.user.clone()),
            Arg::secret("password", &self.endpoint.password),
            Arg::text("locale", "en"),
        ];
        let body = envelope("Login", &self.content.session_manager, &args);
        // only this answer's cookie counts, and no cookie is sent: to a request without one servers give a cookie
        // that nobody is logged in with
        match post(&self.http, &self.endpoint.url, &self.version, None, body, CALL).await {
            Ok((answer, cookie)) => {
                if cookie.is_some() {
                    *self.cookie.write().unwrap_or_else(PoisonError::into_inner) = cookie;
                }
                let key = answer.text("returnval.key").unwrap_or_default().to_owned();
                let user = answer.text("returnval.userName").unwrap_or_default().to_owned();
                *self.user_session.lock().unwrap_or_else(PoisonError::into_inner) = (key, user);
                self.epoch.send_modify(|epoch| *epoch += 1);
                Ok(())
            }
            Err(VimError::Fault(fault))
                if matches!(fault.kind.as_str(), "InvalidLogin" | "PasswordExpired" | "NoPermission") =>
            {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.clone());
                Err(VimError::InvalidLogin(fault))
            }
            Err(error) => Err(error),
        }
    }

    async fn logout(&self) {
        if self.closed.swap(true, Ordering::AcqRel) || self.epoch() == 0 {
            return;
        }
        let limit = Duration::from_secs(10);
        if let Err(error) = self.post("Logout", &self.content.session_manager, &[], limit).await {
            tracing::debug!(host = self.endpoint.host(), %error, "not logged out");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let open = !self.is_closed() && self.epoch() > 0;
        let (Ok(runtime), true) = (tokio::runtime::Handle::try_current(), open) else { return };
        let (http, url, version, cookie) =
            (self.http.clone(), self.endpoint.url.clone(), self.version.clone(), self.cookie());
        let body = envelope("Logout", &self.content.session_manager, &[]);
        runtime.spawn(async move { post(&http, &url, &version, cookie, body, Duration::from_secs(10)).await.is_ok() });
    }
}

fn http_client(endpoint: &Endpoint) -> Result<reqwest::Client, VimError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client_config(&endpoint.tls)?)
        .connect_timeout(Duration::from_secs(20))
        // vCenter's proxy closes idle connections after about a minute
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(AGENT);
    builder.build().map_err(|e| VimError::Parameters(format!("cannot make an HTTP client: {e}")))
}

/// Returns the newest API version of the server, by which it decides what it answers: `vimServiceVersions.xml`
/// beside the SDK. [`OLDEST`] where it has none.
async fn version(http: &reqwest::Client, url: &Url) -> Result<String, VimError> {
    let mut versions = url.clone();
    versions.set_path(&format!("{}/vimServiceVersions.xml", url.path().trim_end_matches('/')));
    let answer = http.get(versions).timeout(CALL).send().await.map_err(|e| unreachable(&e, url))?;
    if answer.status() != StatusCode::OK {
        return Ok(OLDEST.to_owned());
    }
    let body = read(answer, 1 << 20, url).await?;
    let text = String::from_utf8_lossy(&body);
    let Ok(document) = Element::parse(&text, Bounds { depth: 16, elements: 10_000 }) else {
        return Ok(OLDEST.to_owned());
    };
    let vim = document.all("namespace").find(|namespace| namespace.text("name") == Some("urn:vim25"));
    let newest = vim.and_then(|namespace| namespace.text("version")).map(str::trim);
    let plausible =
        |v: &&str| !v.is_empty() && v.len() < 32 && v.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    Ok(newest.filter(plausible).unwrap_or(OLDEST).to_owned())
}

/// Sends an envelope; returns the answer's body element, and the cookie where the server sets one.
async fn post(
    http: &reqwest::Client,
    url: &Url,
    version: &str,
    cookie: Option<HeaderValue>,
    body: String,
    limit: Duration,
) -> Result<(Element, Option<HeaderValue>), VimError> {
    let mut request = http
        .post(url.clone())
        .header("Content-Type", "text/xml; charset=utf-8")
        .header("SOAPAction", format!("\"urn:vim25/{version}\""))
        .timeout(limit)
        .body(body);
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    let answer = request.send().await.map_err(|e| unreachable(&e, url))?;
    let status = answer.status();
    let cookie = new_cookie(&answer);
    let body = read(answer, MAX_ANSWER, url).await?;
    // faults come with status 500
    if status != StatusCode::OK && status != StatusCode::INTERNAL_SERVER_ERROR {
        return Err(refusal(status, url, &body));
    }
    let (parsed, body) = if body.len() >= LARGE {
        let parse = tokio::task::spawn_blocking(move || (decode(&body), body));
        parse.await.map_err(|e| malformed(url, &e))?
    } else {
        (decode(&body), body)
    };
    match parsed {
        Ok(element) => Ok((element, cookie)),
        Err(Other::Fault(fault)) => Err(VimError::Fault(fault)),
        Err(Other::Foreign(reason)) if status == StatusCode::OK => Err(malformed(url, &reason)),
        Err(Other::Foreign(_)) => Err(refusal(status, url, &body)),
    }
}

/// What is not the answer to a call.
enum Other {
    Fault(Fault),
    /// Why it is no SOAP.
    Foreign(String),
}

/// Reads an envelope: the element within its body.
fn decode(body: &[u8]) -> Result<Element, Other> {
    let text = std::str::from_utf8(body).map_err(|e| Other::Foreign(e.to_string()))?;
    let mut envelope = Element::parse(text, Bounds::default()).map_err(|e| Other::Foreign(e.to_string()))?;
    let is_envelope = &*envelope.name == "Envelope";
    let content = envelope.children.iter_mut().find(|child| &*child.name == "Body").filter(|_| is_envelope);
    let Some(content) = content else { return Err(Other::Foreign("it is no SOAP envelope".to_owned())) };
    let answer = content.children.drain(..).next().unwrap_or_default();
    if &*answer.name == "Fault" { Err(Other::Fault(Fault::soap(&answer))) } else { Ok(answer) }
}

fn new_cookie(answer: &Response) -> Option<HeaderValue> {
    let cookies: Vec<&str> = answer
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok()?.split(';').next())
        .map(str::trim)
        .filter(|pair| pair.contains('='))
        .collect();
    if cookies.is_empty() {
        return None;
    }
    let mut value = HeaderValue::from_str(&cookies.join("; ")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn read(mut answer: Response, max: usize, url: &Url) -> Result<Vec<u8>, VimError> {
    let mut body = Vec::with_capacity(answer.content_length().unwrap_or(0).min(LARGE as u64) as usize);
    while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(&e, url))? {
        if body.len() + chunk.len() > max {
            return Err(malformed(url, &format!("it is larger than {max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(super) fn unreachable(error: &reqwest::Error, url: &Url) -> VimError {
    tls::failure(error, url).unwrap_or_else(|| {
        let mut reason = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
        let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(source) = next {
            let text = source.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            next = source.source();
        }
        VimError::Unreachable { host: host(url), reason }
    })
}

pub(super) fn refusal(status: StatusCode, url: &Url, body: &[u8]) -> VimError {
    let message: String = String::from_utf8_lossy(body).split_whitespace().collect::<Vec<_>>().join(" ");
    VimError::Http { status: status.as_u16(), url: url.to_string(), message: message.chars().take(200).collect() }
}

fn malformed(url: &Url, reason: &dyn std::fmt::Display) -> VimError {
    VimError::Malformed { what: format!("the answer of {}", host(url)), reason: reason.to_string() }
}
