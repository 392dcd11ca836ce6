//! What the controller asks an inspection over HTTP: upstream's paths, and the progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use forklift_api::worker::{
    ConversionProgress, InspectionReport, PROGRESS_PATH, READY_PATH, RESULTS_PATH, WorkerError,
};
use tokio::sync::Notify;

/// What the server shows; the inspection writes it.
#[derive(Clone, Default)]
pub struct Shared(Arc<Inner>);

#[derive(Default)]
struct Inner {
    progress: Mutex<ConversionProgress>,
    count: Mutex<Option<Box<dyn Fn() -> u64 + Send>>>,
    result: Mutex<Option<Result<InspectionReport, WorkerError>>>,
    shutdown: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Says what is being done.
    pub fn say(&self, phase: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(phase, "{message}");
        *lock(&self.0.progress) = ConversionProgress { phase: phase.into(), percent: None, message: Some(message) };
    }

    /// Says how many bytes were read so far, whenever somebody asks.
    pub fn counts(&self, count: impl Fn() -> u64 + Send + 'static) {
        *lock(&self.0.count) = Some(Box::new(count));
    }

    /// Shows the results.
    pub fn finish(&self, report: InspectionReport) {
        self.say("Done", "The guest is inspected");
        *lock(&self.0.result) = Some(Ok(report));
    }

    /// Shows why there are none.
    pub fn fail(&self, error: WorkerError) {
        self.say("Failed", error.message.clone());
        *lock(&self.0.result) = Some(Err(error));
    }

    /// Returns when somebody has asked for the end.
    pub async fn shutdown(&self) {
        self.0.shutdown.notified().await;
    }
}

/// The paths.
pub fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(READY_PATH, get(ready))
        .route(RESULTS_PATH, get(results))
        .route("/shutdown", any(shutdown))
        .route(PROGRESS_PATH, get(progress))
        .with_state(shared)
}

async fn progress(State(shared): State<Shared>) -> Json<ConversionProgress> {
    let mut progress = lock(&shared.0.progress).clone();
    if let (Some(count), Some(message)) = (&*lock(&shared.0.count), &mut progress.message) {
        message.push_str(&format!(" ({:.1} MiB read)", count() as f64 / f64::from(1 << 20)));
    }
    Json(progress)
}

async fn ready(State(shared): State<Shared>) -> Response {
    if lock(&shared.0.result).is_some() { "ok\n".into_response() } else { not_ready() }
}

fn not_ready() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
}

async fn results(State(shared): State<Shared>) -> Response {
    match &*lock(&shared.0.result) {
        None => not_ready(),
        Some(Ok(report)) => Json(report).into_response(),
        // whoever has read that it failed has read all
        Some(Err(error)) => {
            shared.0.shutdown.notify_one();
            (StatusCode::INTERNAL_SERVER_ERROR, error.message.clone()).into_response()
        }
    }
}

async fn shutdown(State(shared): State<Shared>) -> Response {
    if lock(&shared.0.result).is_none() {
        return not_ready();
    }
    shared.0.shutdown.notify_one();
    "ok\n".into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn ask(shared: &Shared, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router(shared.clone()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn paths_answer_as_upstreams() {
        let shared = Shared::default();
        shared.say("Inspecting", "Looking for the system");
        shared.counts(|| 3 << 20);
        assert_eq!(ask(&shared, "GET", "/healthz").await, (200, "ok\n".into()));
        for path in ["/ready", "/results", "/shutdown"] {
            assert_eq!(ask(&shared, "GET", path).await, (503, "not ready\n".into()), "{path}");
        }
        assert!(ask(&shared, "GET", "/progress").await.1.contains("Looking for the system (3.0 MiB read)"));
        shared.finish(InspectionReport { passed: true, bytes_read: 5, ..InspectionReport::default() });
        assert_eq!(ask(&shared, "GET", "/ready").await.0, 200);
        for _ in 0..2 {
            let (status, text) = ask(&shared, "GET", "/results").await;
            assert!(
                status == 200 && text.contains("\"passed\":true") && text.contains("\"all_concerns\":[]"),
                "{text}"
            );
        }
        assert_eq!(ask(&shared, "POST", "/shutdown").await, (200, "ok\n".into()));
        tokio::time::timeout(std::time::Duration::from_secs(5), shared.shutdown()).await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_is_told_once_and_ends_the_worker() {
        let shared = Shared::default();
        shared.fail(WorkerError { message: "no disk".into(), ..WorkerError::default() });
        assert_eq!(ask(&shared, "GET", "/ready").await.0, 200);
        assert_eq!(ask(&shared, "GET", "/results").await, (500, "no disk".into()));
        tokio::time::timeout(std::time::Duration::from_secs(5), shared.shutdown()).await.unwrap();
    }
}
