//! What the controller asks a conversion over HTTP: upstream's paths, and the progress.
//!
//! Upstream's server comes up when the conversion is over; ours is there from the start, shows the progress, and
//! answers 503 for what is not known yet.

use std::sync::{Arc, Mutex};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router, extract::State};
use forklift_api::worker::{ConversionProgress, ConversionResult, PROGRESS_PATH};
use tokio::sync::Notify;

use super::output::Inspection;
use super::report;

/// What the server shows; the conversion writes it.
#[derive(Debug, Default, Clone)]
pub struct Shared(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    progress: Mutex<ConversionProgress>,
    result: Mutex<Option<ConversionResult>>,
    shutdown: Notify,
}

impl Shared {
    /// Shows how far the conversion is.
    pub fn progress(&self, phase: &str, percent: f32, message: impl Into<String>) {
        let progress =
            ConversionProgress { phase: phase.into(), percent: Some(percent), message: Some(message.into()) };
        *lock(&self.0.progress) = progress;
    }

    /// How far the conversion is.
    pub fn current(&self) -> ConversionProgress {
        lock(&self.0.progress).clone()
    }

    /// Shows the result.
    pub fn finish(&self, result: ConversionResult) {
        *lock(&self.0.result) = Some(result);
    }

    /// Returns when somebody has asked for the end.
    pub async fn shutdown(&self) {
        self.0.shutdown.notified().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The paths.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route(PROGRESS_PATH, get(|State(s): State<Shared>| async move { Json(s.current()) }))
        .route("/vm", get(vm))
        .route("/inspection", get(inspection))
        .route("/warnings", get(warnings))
        .route("/shutdown", any(shutdown))
        .with_state(shared)
}

/// The answer from a finished, successful conversion; 503 until then.
fn when_done(shared: &Shared, answer: impl FnOnce(&ConversionResult) -> Response) -> Response {
    match &*lock(&shared.0.result) {
        Some(result) if result.error.is_none() => answer(result),
        Some(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the conversion has failed").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the conversion is running").into_response(),
    }
}

async fn vm(State(shared): State<Shared>) -> Response {
    when_done(&shared, |result| match &result.vm {
        Some(yaml) => ([(header::CONTENT_TYPE, "text/yaml")], yaml.clone()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn inspection(State(shared): State<Shared>) -> Response {
    when_done(&shared, |result| {
        let found =
            result.inspection.clone().and_then(|i| serde_json::from_value::<Inspection>(i).ok()).unwrap_or_default();
        ([(header::CONTENT_TYPE, "application/xml")], report::inspection_xml(&found)).into_response()
    })
}

async fn warnings(State(shared): State<Shared>) -> Response {
    when_done(&shared, |result| {
        if result.warnings.is_empty() {
            StatusCode::NO_CONTENT.into_response()
        } else {
            Json(&result.warnings).into_response()
        }
    })
}

async fn shutdown(State(shared): State<Shared>) -> Response {
    if lock(&shared.0.result).is_none() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the conversion is running").into_response();
    }
    shared.0.shutdown.notify_one();
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forklift_api::worker::Warning;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Status, content type and body of an answer.
    async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let kind = head.lines().find_map(|l| l.strip_prefix("content-type: ")).unwrap_or_default();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), kind.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn paths_answer_as_upstreams_when_done_and_503_before() {
        let shared = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router(shared.clone())).into_future());

        shared.progress("Converting", 42.0, "Opening the source");
        let progress: ConversionProgress = serde_json::from_str(&ask(base, "GET", "/progress").await.2).unwrap();
        assert_eq!((progress.phase.as_str(), progress.percent), ("Converting", Some(42.0)));
        for path in ["/vm", "/inspection", "/warnings", "/shutdown"] {
            assert_eq!(ask(base, "GET", path).await.0, 503, "{path}");
        }

        let found = Inspection { name: "linux".into(), osinfo: "debian12".into(), ..Inspection::default() };
        let mut result = ConversionResult {
            inspection: Some(serde_json::to_value(found).unwrap()),
            vm: Some(report::vm_yaml("a", "bios")),
            ..ConversionResult::default()
        };
        shared.finish(result.clone());
        assert_eq!(ask(base, "GET", "/vm").await, (200, "text/yaml".into(), report::vm_yaml("a", "bios")));
        let (status, kind, xml) = ask(base, "GET", "/inspection").await;
        assert_eq!((status, kind.as_str()), (200, "application/xml"));
        assert!(xml.contains("<osinfo>debian12</osinfo>"));
        assert_eq!(ask(base, "GET", "/warnings").await.0, 204);
        result.warnings.push(Warning { reason: "R".into(), message: "m".into() });
        shared.finish(result);
        assert_eq!(ask(base, "GET", "/warnings").await.2, r#"[{"reason":"R","message":"m"}]"#);

        assert_eq!(ask(base, "POST", "/shutdown").await.0, 204);
        tokio::time::timeout(std::time::Duration::from_secs(5), shared.shutdown()).await.unwrap();
    }
}
