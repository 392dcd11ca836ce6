//! What every request passes on its way in and out, in kube-apiserver's order:
//!
//! ```text
//!  who is it ─► as whom ─► audit level ─► a seat, or a place among the open ones ─► may it ─► handler
//!                                                  metrics, audit event, gzip ◄────────────────┘
//! ```

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::audit::{self, Level, Record};
use crate::auth::{User, impersonate, rbac};
use crate::compression;
use crate::error::{ApiError, ApiResult};
use crate::limits::{Open, Refused};
use crate::metrics::Labels;
use crate::request::Info;
use crate::server::{Peer, Server};

/// Serves one request.
pub async fn pass(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let info = Info::of(request.method(), request.uri());
    let gzip = compression::accepted(request.headers());
    let labels = labels(&server, &info, request.headers());
    let id = audit::id_of(request.headers());
    let mut ending = Ending {
        server: server.clone(),
        labels,
        started,
        record: None,
        stages_omitted: Vec::new(),
        code: AtomicU16::new(0),
        open: None,
    };
    let response = match admit(&server, &mut request, &info, &id, &mut ending).await {
        Err(refused) => refused,
        Ok(_seat) if info.is_long_running() => return long(ending, id, &info, request, next).await,
        Ok(_seat) => {
            let gauge = if info.is_mutating() { &server.metrics.mutating } else { &server.metrics.read_only };
            gauge.fetch_add(1, Ordering::Relaxed);
            let response = guarded(request, next).await;
            gauge.fetch_sub(1, Ordering::Relaxed);
            response
        }
    };
    ending.code.store(response.status().as_u16(), Ordering::Relaxed);
    if let (Some(record), Some(notes)) = (&mut ending.record, response.extensions().get::<audit::Notes>()) {
        record.notes = notes.0.clone();
    }
    drop(ending);
    let response = if gzip { compression::compress(response).await } else { response };
    dressed(response, &id)
}

/// Common headers.
fn dressed(mut response: Response, id: &str) -> Response {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("audit-id", id);
    }
    response
}

/// A handler that panics costs its own request only.
async fn guarded(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            ApiError::internal("the handler of this request failed; the server's log tells where").into_response()
        }
    }
}

fn labels(server: &Server, info: &Info, headers: &HeaderMap) -> Labels {
    let known = info.target.as_ref().is_some_and(|t| server.registry.find(&t.group, &t.version, &t.plural).is_some());
    let apply = headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/apply-patch"));
    Labels::of(info, known, apply)
}

/// Everything before the handler; the answer when it is not let through.
async fn admit(
    server: &Arc<Server>,
    request: &mut Request,
    info: &Info,
    id: &str,
    ending: &mut Ending,
) -> Result<Option<crate::limits::Seat>, Response> {
    let peer = request.extensions().get::<Peer>().cloned();
    let certificate = peer.as_ref().and_then(|p| p.user.as_ref());
    let Some(real) = server.auth.authenticate(&server.store, request.headers(), certificate) else {
        return Err(ApiError::unauthorized().into_response());
    };
    let acting = impersonate::impersonated(&server.store, &real, request.headers());
    let user = acting.as_ref().ok().and_then(Option::as_ref).unwrap_or(&real).clone();
    if let Some(log) = &server.audit {
        let (level, omitted) = log.policy.level(info, &user);
        if level != Level::None {
            ending.stages_omitted = omitted.iter().chain(&log.policy.omit_stages).cloned().collect();
            let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
            ending.record = Some(Record {
                level,
                id: id.to_string(),
                uri: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
                info: info.clone(),
                user: real.clone(),
                impersonated: acting.as_ref().ok().and_then(Clone::clone),
                source: peer.map(|p| p.address.ip().to_string()).unwrap_or_default(),
                agent: text(header::USER_AGENT),
                body: None,
                decision: None,
                notes: Vec::new(),
                received: jiff::Timestamp::now(),
            });
        }
    }
    acting.map_err(IntoResponse::into_response)?;
    let seat = if info.is_long_running() {
        ending.open = Some(server.open.open(&user.name, server.limits.long_running).ok_or_else(|| busy(1))?);
        None
    } else {
        let seats = if info.is_mutating() { &server.write_seats } else { &server.read_seats };
        Some(seats.take(&flow(&user, request.headers())).await.map_err(|refused| refuse(server, refused))?)
    };
    let (allowed, reason) = may(server, &user, info);
    if let Some(record) = &mut ending.record {
        record.decision = Some((allowed.is_ok(), reason));
    }
    allowed.map_err(IntoResponse::into_response)?;
    if ending.record.as_ref().is_some_and(|r| r.level == Level::Request) && info.is_mutating() {
        keep_body(server, request, info, ending).await.map_err(IntoResponse::into_response)?;
    }
    request.extensions_mut().insert(user);
    Ok(seat)
}

/// Whose turn it is: the user's; administrators are told apart by program, since all of a machine's are one user.
fn flow(user: &User, headers: &HeaderMap) -> String {
    if !user.is_admin() {
        return user.name.clone();
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let program: String = agent.split(['/', ' ']).next().unwrap_or_default().chars().take(40).collect();
    format!("{}/{program}", user.name)
}

fn busy(seconds: u32) -> Response {
    let text = "Too many requests, please try again later.\n";
    let mut response = (StatusCode::TOO_MANY_REQUESTS, text).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn refuse(server: &Server, refused: Refused) -> Response {
    server.metrics.rejected(refused.reason());
    busy(1)
}

/// RBAC's word on the request, and its reason.
fn may(server: &Server, user: &User, info: &Info) -> (ApiResult<()>, String) {
    let wanted = match &info.target {
        Some(target) => rbac::Attributes {
            verb: info.verb,
            group: &target.group,
            resource: &target.plural,
            subresource: target.subresource.split('/').next().unwrap_or_default(),
            namespace: if target.group.is_empty() && target.plural == "namespaces" {
                &target.name
            } else {
                &target.namespace
            },
            name: &target.name,
            path: None,
        },
        None => rbac::Attributes { verb: info.verb, path: Some(&info.path), ..rbac::Attributes::default() },
    };
    let decision = rbac::decide(&server.store, user, &wanted);
    if decision.allowed {
        return (Ok(()), decision.reason);
    }
    let why = rbac::refusal(user, &wanted, &decision);
    let error = match &info.target {
        Some(target) => ApiError::forbidden(&target.group, &target.plural, &target.name, &why),
        None => ApiError::forbidden_path(&why),
    };
    (Err(error), decision.reason)
}

/// Takes a copy of the body for the audit log.
async fn keep_body(server: &Server, request: &mut Request, info: &Info, ending: &mut Ending) -> ApiResult<()> {
    if info.is_long_running() || !audit::may_record_body(info) {
        return Ok(());
    }
    let bytes = crate::handlers::receive(server, std::mem::take(request.body_mut())).await?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let body = if kind.contains("yaml") {
        std::str::from_utf8(&bytes).ok().and_then(|text| serde_saphyr::from_str::<Value>(text).ok())
    } else if kind.starts_with(crate::protobuf::MEDIA_TYPE) {
        crate::protobuf::decode(&bytes).ok()
    } else {
        serde_json::from_slice(&bytes).ok()
    };
    if let Some(record) = &mut ending.record {
        record.body = body;
    }
    *request.body_mut() = Body::from(bytes);
    Ok(())
}

/// Serves a request that stays open; it has ended when the body, or the tunnel behind it, is dropped.
async fn long(ending: Ending, id: String, info: &Info, mut request: Request, next: Next) -> Response {
    ending.server.metrics.long_running(&ending.labels, 1);
    let ending = LongRunning(Arc::new(Counted(ending)));
    request.extensions_mut().insert(ending.clone());
    let response = guarded(request, next).await;
    ending.0.0.code.store(response.status().as_u16(), Ordering::Relaxed);
    if info.verb == "watch" && response.status().is_success() {
        ending.0.0.tell("ResponseStarted");
    }
    let response = response.map(|body| Body::new(Tracked { body, _ending: ending }));
    dressed(response, &id)
}

/// Held by whatever keeps a long-running request open.
#[derive(Clone)]
pub struct LongRunning(Arc<Counted>);

struct Counted(Ending);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.server.metrics.long_running(&self.0.labels, -1);
    }
}

/// What is done when a request is over: metrics and the audit event.
struct Ending {
    server: Arc<Server>,
    labels: Labels,
    started: Instant,
    record: Option<Record>,
    stages_omitted: Vec<String>,
    code: AtomicU16,
    open: Option<Open>,
}

impl Ending {
    fn tell(&self, stage: &str) {
        if let (Some(record), Some(log)) = (&self.record, &self.server.audit)
            && !self.stages_omitted.iter().any(|s| s == stage)
        {
            log.write(record.event(stage, self.code.load(Ordering::Relaxed), jiff::Timestamp::now()));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.open.take();
        // 0: the client went away before there was an answer
        let code = match self.code.load(Ordering::Relaxed) {
            0 => 499,
            code => code,
        };
        self.code.store(code, Ordering::Relaxed);
        self.server.metrics.answered(self.labels.clone(), code, self.started.elapsed());
        self.tell("ResponseComplete");
    }
}

/// A body that keeps its request open.
struct Tracked {
    body: Body,
    _ending: LongRunning,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
