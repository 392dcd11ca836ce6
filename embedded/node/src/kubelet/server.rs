//! The kubelet's endpoint: container logs, exec, attach and port-forward over plain HTTP on loopback, with a bearer token.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;

use super::logs::{self, Options, Stream};
use super::{Kubelet, streams};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<usize>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<usize>,
    stream: Option<String>,
}

/// Makes the endpoint's routes.
pub fn router(kubelet: Arc<Kubelet>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
        .route("/exec/{namespace}/{pod}/{container}", any(streams::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(streams::attach))
        .route("/portForward/{namespace}/{pod}", any(streams::port_forward))
        .with_state(kubelet)
}

async fn container_logs(
    State(kubelet): State<Arc<Kubelet>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    if !allowed(&headers, &kubelet.token) {
        return (StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong\n").into_response();
    }
    let Some(dir) = kubelet.container_dir(&namespace, &pod, &container) else {
        let message = format!("container {container} of pod {namespace}/{pod} is not on this node\n");
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let record = super::state::Record::load(&dir.join("record.json"));
    let run = match (on(&asked.previous), record.restarts) {
        (false, run) => run,
        (true, 0) => {
            let message = format!("previous terminated container {container} in pod {pod} not found\n");
            return (StatusCode::BAD_REQUEST, message).into_response();
        }
        (true, run) => run - 1,
    };
    let path = dir.join(format!("{run}.log"));
    if !logs::exists(&path) {
        let message = format!("container {container} in pod {pod} is waiting to start\n");
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let since =
        asked.since_time.or_else(|| Timestamp::now().checked_sub(SignedDuration::from_secs(asked.since_seconds?)).ok());
    let options = Options {
        follow: on(&asked.follow),
        tail: asked.tail_lines,
        since,
        timestamps: on(&asked.timestamps),
        limit: asked.limit_bytes,
        stream: match asked.stream.as_deref() {
            Some("Stdout") => Some(Stream::Out),
            Some("Stderr") => Some(Stream::Err),
            _ => None,
        },
    };
    let body = Body::from_stream(ReceiverStream::new(kubelet.logs.read(path, options)));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

fn on(flag: &Option<String>) -> bool {
    flag.as_deref().is_some_and(|value| matches!(value, "true" | "1" | ""))
}

/// Says whether a caller may use the endpoint.
pub(super) fn allowed(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    // every byte is compared, so that the time tells nothing about the token
    given.len() == token.len()
        && given.bytes().zip(token.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
