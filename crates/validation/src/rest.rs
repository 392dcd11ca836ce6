//! The rules over HTTP, in the shape of OPA's data API.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/data/io/konveyor/forklift/ova/rules_version` | `{"result":{"rules_version":5}}` |
//! | `POST /v1/data/io/konveyor/forklift/ova/validate` `{"input":{…}}` | `{"result":{"concerns":[…],"errors":[…],"rules_version":…}}` |
//! | `POST /v0/data/…`, the body is the input | the bare document, 404 when it is undefined |
//! | an undefined path | `{}` |
//! | `GET /v1/policies`, `/v1/policies/{id}` | the files in use; they are changed in the ConfigMap, not here |
//! | `POST /v1/bulk/ova`, one input a line, or `{"inputs":[…]}` | one answer a line, or `{"results":[…]}` |
//! | `GET /health`, `GET /metrics` | |
//!
//! `input` and `pretty` are query parameters as in OPA. Every other one is accepted
//! and changes nothing: answers carry no provenance, metrics or explanations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Serialize;
use serde_json::json;

use crate::engine::validate_path;
use crate::metrics::Metrics;
use crate::question::Question;
use crate::rego::document::Document;
use crate::rego::limits::Stop;
use crate::rego::value::Value;
use crate::request::{Asked, Body, first};
use crate::{QueryError, Validator, bulk, package_of};

/// The largest request about one VM, in bytes.
pub const LARGEST: usize = 16 << 20;
/// The largest request about many VMs, in bytes.
pub const LARGEST_BULK: usize = 256 << 20;

#[derive(Clone)]
struct Service {
    validator: Validator,
    metrics: Metrics,
}

type Parameters = Query<HashMap<String, String>>;

/// Returns the service's routes.
pub fn router(validator: Validator) -> Router {
    let service = Arc::new(Service { validator, metrics: Metrics::default() });
    Router::new()
        .route("/health", get(async || body(StatusCode::OK, b"{}\n".to_vec())))
        .route("/metrics", get(metrics))
        .route("/v1/data", any(root))
        .route("/v1/data/{*path}", any(data))
        .route("/v0/data/{*path}", post(bare))
        .route("/v1/policies", get(policies))
        .route("/v1/policies/{*id}", any(policy))
        .route("/v1/bulk/{provider}", post(many).layer(DefaultBodyLimit::max(LARGEST_BULK)))
        .route("/", post(async || undefined("system/main")))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(service)
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let text = service.metrics.text(&service.validator);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

async fn root(service: State<Arc<Service>>, parameters: Parameters, request: Request) -> Response {
    data(service, Path(String::new()), parameters, request).await
}

async fn data(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    Query(parameters): Parameters,
    request: Request,
) -> Response {
    let start = Instant::now();
    let method = match *request.method() {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT | Method::PATCH | Method::DELETE => return read_only("data"),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    let question = service.validator.question(&path);
    let response = match input(&question, method, &parameters, request).await {
        Ok(input) => {
            let warn = method == "post" && input.is_none();
            match service.evaluate(question, input).await {
                Ok(value) => found(value.as_ref(), warn, parameters.get("pretty").is_some_and(|p| p == "true")),
                Err(error) => stopped(&error),
            }
        }
        Err(refusal) => refusal,
    };
    service.metrics.answered("v1/data", method, response.status().as_u16(), start);
    response
}

/// Reads the input of a request; `None` when it has none.
async fn input(
    question: &Question,
    method: &str,
    parameters: &HashMap<String, String>,
    request: Request,
) -> Result<Option<Document>, Response> {
    if method == "get" {
        let Some(text) = parameters.get("input") else { return Ok(None) };
        return match first(text.as_bytes(), question.reader()) {
            Ok(document) => Ok(Some(document)),
            Err(error) => Err(malformed("parameter", &error)),
        };
    }
    let bytes = whole(request, LARGEST).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match first(&bytes, Asked(question)).map_err(|error| malformed("body", &error))? {
        Body::Input(document) => Ok(document.filter(|document| !document.is_null())),
        Body::Wrong(kind) => {
            Err(malformed("body", &format!("json: cannot unmarshal {kind} into Go value of type types.DataRequestV1")))
        }
    }
}

/// Reads the whole body of a request.
async fn whole(request: Request, most: usize) -> Result<Bytes, Response> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        let status = rejection.status();
        let message = match status {
            StatusCode::PAYLOAD_TOO_LARGE => format!("the request is larger than {} MiB", most >> 20),
            _ => format!("the request cannot be read: {rejection}"),
        };
        failure(status, "invalid_parameter", &message)
    })
}

impl Service {
    async fn evaluate(&self, question: Question, input: Option<Document>) -> Result<Option<Value>, QueryError> {
        self.metrics.evaluated(usize::from(input.is_some()));
        if !question.asks_users() {
            // bundled rules take less time than handing them to another thread
            return question.answer(input.as_ref());
        }
        // a user's rule may take a second: not on a thread that serves others
        let evaluation = tokio::task::spawn_blocking(move || question.answer(input.as_ref()));
        evaluation.await.unwrap_or_else(|error| Err(QueryError::internal(&error.to_string())))
    }
}

async fn bare(State(service): State<Arc<Service>>, Path(path): Path<String>, request: Request) -> Response {
    let start = Instant::now();
    let bytes = match whole(request, LARGEST).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let question = service.validator.question(&path);
    let input = match bytes.is_empty() {
        true => Ok(None),
        false => first(&bytes, question.reader()).map(Some),
    };
    let response = match input {
        Err(error) => malformed("body", &error),
        Ok(input) => match service.evaluate(question, input).await {
            Ok(Some(value)) => json_line(StatusCode::OK, &value),
            Ok(None) => undefined(&path),
            Err(error) => stopped(&error),
        },
    };
    service.metrics.answered("v0/data", "post", response.status().as_u16(), start);
    response
}

async fn policies(State(service): State<Arc<Service>>) -> Response {
    let files = service.validator.files();
    let list: Vec<_> = files.iter().map(|file| json!({"id": file.name, "raw": file.text})).collect();
    json_line(StatusCode::OK, &json!({ "result": list }))
}

async fn policy(State(service): State<Arc<Service>>, Path(id): Path<String>, method: Method) -> Response {
    if method != Method::GET {
        return read_only("policies");
    }
    match service.validator.files().iter().find(|file| file.name == id) {
        Some(file) => json_line(StatusCode::OK, &json!({"result": {"id": file.name, "raw": file.text}})),
        None => failure(
            StatusCode::NOT_FOUND,
            "resource_not_found",
            &format!("storage_not_found_error: policy id \"{id}\""),
        ),
    }
}

async fn many(
    State(service): State<Arc<Service>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let start = Instant::now();
    let bytes = match whole(request, LARGEST_BULK).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let lines = content.contains("ndjson");
    let question = service.validator.question(&validate_path(package_of(&provider)));
    let work = tokio::task::spawn_blocking(move || {
        if lines { Ok(bulk::answer_lines(&question, &bytes)) } else { bulk::answer_list(&question, &bytes) }
    });
    let response = match work.await {
        Ok(Ok(answers)) => {
            service.metrics.evaluated(answers.count);
            let kind = if lines { "application/x-ndjson" } else { "application/json" };
            let length = answers.length().to_string();
            let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, length.as_str())];
            (headers, axum::body::Body::from_stream(answers)).into_response()
        }
        Ok(Err(error)) => malformed("body", &error),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &error.to_string()),
    };
    service.metrics.answered("v1/bulk", "post", response.status().as_u16(), start);
    response
}

#[derive(Serialize)]
struct Warning {
    code: &'static str,
    message: &'static str,
}

#[derive(Serialize)]
pub(crate) struct Found<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<Warning>,
}

pub(crate) fn wrapped(value: Option<&Value>, warn: bool) -> Vec<u8> {
    serde_json::to_vec(&answered(value, warn)).unwrap_or_default()
}

pub(crate) fn answered(value: Option<&Value>, warn: bool) -> Found<'_> {
    let warning =
        warn.then_some(Warning { code: "api_usage_warning", message: "'input' key missing from the request" });
    Found { result: value, warning }
}

fn found(value: Option<&Value>, warn: bool, pretty: bool) -> Response {
    let mut text = match pretty {
        true => serde_json::to_vec_pretty(&answered(value, warn)).unwrap_or_default(),
        false => wrapped(value, warn),
    };
    text.push(b'\n');
    body(StatusCode::OK, text)
}

fn body(status: StatusCode, text: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn json_line(status: StatusCode, value: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    body(status, text)
}

/// An error as OPA writes it, two spaces to a level.
fn error(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    body(status, text)
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    error(status, &json!({"code": code, "message": message}))
}

fn malformed(place: &str, reason: &str) -> Response {
    failure(
        StatusCode::BAD_REQUEST,
        "invalid_parameter",
        &format!("{place} contains malformed input document: {reason}"),
    )
}

fn undefined(path: &str) -> Response {
    let path = path.trim_matches('/').replace('/', ".");
    failure(StatusCode::NOT_FOUND, "undefined_document", &format!("document missing: data.{path}"))
}

fn read_only(what: &str) -> Response {
    failure(
        StatusCode::METHOD_NOT_ALLOWED,
        "read_only",
        &format!("{what} cannot be changed over HTTP: put rules into the ConfigMap or the folder of the service"),
    )
}

/// An evaluation that failed, in the form of OPA's 500.
fn stopped(failed: &QueryError) -> Response {
    let code = match failed.stop {
        Stop::Conflict(_) => "eval_conflict_error",
        Stop::Time(_) | Stop::Memory(_) | Stop::Depth => "eval_cancel_error",
        Stop::Refused(_) => "eval_builtin_error",
    };
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        &json!({
            "code": "internal_error",
            "message": "error(s) occurred while evaluating query",
            "errors": [{
                "code": code,
                "message": failed.stop.to_string(),
                "location": {"file": failed.file, "row": failed.line, "col": 1},
            }],
        }),
    )
}
