//! What each path answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::{Access, Denied, bearer};
use super::query::{MAX_DETAIL, Parameters};
use super::{PROVIDER_TYPES, Service, watch};
use crate::view::tree_text;
use crate::{LiveError, LiveQuery, ProviderEntry, Record, View, find};

type Pairs = Query<Vec<(String, String)>>;

/// An answer that is not 200.
pub(super) struct Refusal {
    status: StatusCode,
    message: Option<String>,
    reason: Option<&'static str>,
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self { status, message: None, reason: None }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Unauthenticated => StatusCode::UNAUTHORIZED,
            Denied::Forbidden(_) => StatusCode::FORBIDDEN,
            Denied::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: Some(denied.to_string()), reason: None }
    }
}

impl From<LiveError> for Refusal {
    fn from(error: LiveError) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: Some(error.to_string()), reason: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        if let Some(reason) = self.reason {
            headers.insert("X-Reason", HeaderValue::from_static(reason));
        }
        if let Some(message) = self.message {
            let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
                headers.insert(HeaderName::from_static("forklift-error-message"), value);
            }
        }
        response
    }
}

const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;

pub(super) async fn schema() -> Json<Value> {
    Json(json!({"paths": [
        "/schema", "/providers", "/providers/:type", "/providers/:type/:provider",
        "/providers/:type/:provider/:collection", "/providers/:type/:provider/:collection/:id",
        "/providers/:type/:provider/workloads/:vm", "/providers/:type/:provider/tree/:tree",
    ]}))
}

pub(super) async fn all_providers(
    State(service): State<Service>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Refusal> {
    let parameters = list_request(&service, &headers, &pairs).await?;
    let mut answer = Map::new();
    for provider_type in PROVIDER_TYPES {
        let list = provider_list(&service, &headers, provider_type, &parameters).await?;
        answer.insert(provider_type.to_owned(), list.into());
    }
    Ok(Json(answer).into_response())
}

pub(super) async fn providers(
    State(service): State<Service>,
    Path(provider_type): Path<String>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Refusal> {
    let known = PROVIDER_TYPES.contains(&provider_type.as_str()) || provider_type == "nutanix";
    if !known {
        return Err(NOT_FOUND.into());
    }
    let parameters = list_request(&service, &headers, &pairs).await?;
    let list = provider_list(&service, &headers, &provider_type, &parameters).await?;
    Ok(Json(parameters.page(list)).into_response())
}

/// Checks a request that names no provider.
async fn list_request(
    service: &Service,
    headers: &HeaderMap,
    pairs: &[(String, String)],
) -> Result<Parameters, Refusal> {
    let parameters = Parameters::read(pairs)?;
    let user = service.authorizer.authenticate(bearer(headers)).await?;
    let namespace = parameters.namespace.clone().unwrap_or_default();
    service.authorizer.permit(&user, &Access::List { namespace }).await?;
    if headers.contains_key(watch::HEADER) {
        return Err(StatusCode::BAD_REQUEST.into());
    }
    Ok(parameters)
}

async fn provider_list(
    service: &Service,
    headers: &HeaderMap,
    provider_type: &str,
    parameters: &Parameters,
) -> Result<Vec<Value>, Refusal> {
    let mut list = Vec::new();
    for entry in service.inventory.list() {
        let wanted = parameters.namespace.as_ref().is_none_or(|n| *n == entry.namespace());
        if entry.spec().provider_type != provider_type || !wanted {
            continue;
        }
        match provider_resource(&entry, parameters.detail, bearer(headers)).await {
            Ok(resource) => list.push(resource),
            // one cluster that does not answer must not hide the others
            Err(error) => tracing::warn!(provider = entry.name(), %error, "left out of the list"),
        }
    }
    Ok(list)
}

async fn provider_resource(entry: &ProviderEntry, detail: i64, token: Option<&str>) -> Result<Value, LiveError> {
    let object = entry.object();
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let mut resource = Map::new();
    resource.insert("uid".into(), entry.uid().into());
    resource.insert("version".into(), text("resourceVersion").into());
    resource.insert("namespace".into(), text("namespace").into());
    resource.insert("name".into(), text("name").into());
    resource.insert("selfLink".into(), entry.spec().link(entry.uid()).into());
    resource.insert("id".into(), entry.uid().into());
    if detail == 0 {
        return Ok(resource.into());
    }
    resource.insert("type".into(), entry.spec().provider_type.into());
    resource.insert("object".into(), (*object).clone());
    for key in entry.spec().blanks {
        resource.insert((*key).into(), entry.store().fact(key).unwrap_or_else(|| "".into()));
    }
    for count in entry.spec().counts {
        let number = match entry.live_source() {
            Some(live) => live.list(LiveQuery { kind: count.kind, token, ..LiveQuery::default() }).await?.len(),
            None => entry.store().count(count.kind),
        };
        let number = i64::try_from(number).unwrap_or(i64::MAX).saturating_add(count.plus);
        resource.insert(count.key.into(), number.into());
    }
    Ok(resource.into())
}

/// A request about one provider that passed all checks.
struct Granted {
    entry: Arc<ProviderEntry>,
    parameters: Parameters,
    token: Option<String>,
}

async fn provider_request(
    service: &Service,
    headers: &HeaderMap,
    provider_type: &str,
    uid: &str,
    pairs: &[(String, String)],
) -> Result<Granted, Refusal> {
    let parameters = Parameters::read(pairs)?;
    let token = bearer(headers);
    let user = service.authorizer.authenticate(token).await?;
    let Some(entry) = service.inventory.get(uid) else {
        return Err(Refusal { status: NOT_FOUND, message: None, reason: Some("ProviderNotFound") });
    };
    let access = Access::Provider { namespace: entry.namespace(), name: entry.name() };
    service.authorizer.permit(&user, &access).await?;
    if entry.spec().provider_type != provider_type {
        return Err(NOT_FOUND.into());
    }
    if !entry.await_parity(service.parity_limit).await {
        return Err(StatusCode::PARTIAL_CONTENT.into());
    }
    Ok(Granted { entry, parameters, token: token.map(str::to_owned) })
}

pub(super) async fn provider(
    State(service): State<Service>,
    Path((provider_type, uid)): Path<(String, String)>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Refusal> {
    let granted = provider_request(&service, &headers, &provider_type, &uid, &pairs).await?;
    Ok(Json(provider_resource(&granted.entry, MAX_DETAIL, granted.token.as_deref()).await?).into_response())
}

pub(super) async fn collection(
    State(service): State<Service>,
    Path((provider_type, uid, collection)): Path<(String, String, String)>,
    headers: HeaderMap,
    Query(pairs): Pairs,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let Granted { entry, parameters, token } =
        provider_request(&service, &headers, &provider_type, &uid, &pairs).await?;
    let kind = entry.spec().kind(&collection).ok_or(NOT_FOUND)?;
    if let Some(option) = headers.get(watch::HEADER) {
        if entry.live_source().is_some() {
            return Err(StatusCode::NOT_IMPLEMENTED.into());
        }
        let snapshot = option.as_bytes() == watch::SNAPSHOT;
        return match upgrade {
            Ok(upgrade) => Ok(watch::answer(upgrade, entry, kind, snapshot)),
            Err(rejection) => Ok(rejection.into_response()),
        };
    }
    let records = match entry.live_source() {
        Some(live) => {
            let query = LiveQuery {
                kind: kind.name,
                namespace: parameters.namespace.as_deref(),
                name: parameters.name.as_deref(),
                token: token.as_deref(),
            };
            live.list(query).await?
        }
        None => match &parameters.name {
            Some(name) => find::by_name(kind, entry.store(), name),
            None => entry.store().list(kind.name).to_vec(),
        },
    };
    let view = entry.store().view(kind.name).ok_or(NOT_FOUND)?;
    let records: Vec<_> = records.into_iter().filter(|r| kind.hidden.is_none_or(|hidden| !hidden(r))).collect();
    Ok(json_text(list_text(view, &parameters.page(records), kind.list_detail(parameters.detail))))
}

fn list_text(view: View<'_>, records: &[Arc<Record>], detail: i64) -> Vec<u8> {
    let mut body = Vec::with_capacity(4096);
    body.push(b'[');
    for (i, record) in records.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        view.append(record, detail, &mut body);
    }
    body.push(b']');
    body
}

pub(super) async fn resource(
    State(service): State<Service>,
    Path((provider_type, uid, collection, id)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Refusal> {
    let Granted { entry, parameters, token } =
        provider_request(&service, &headers, &provider_type, &uid, &pairs).await?;
    if collection == "tree" {
        let Some(live) = entry.live_source() else {
            let tree = entry.spec().trees.iter().find(|tree| tree.name == id).ok_or(NOT_FOUND)?;
            let children = (tree.build)(entry.store(), parameters.detail);
            return Ok(json_text(tree_text(entry.store(), &children)));
        };
        let tree = live.tree(&id, parameters.detail, token.as_deref()).await.ok_or(NOT_FOUND)??;
        return Ok(Json(tree).into_response());
    }
    if collection == "workloads" {
        let vms = entry.spec().workloads.ok_or(NOT_FOUND)?;
        let record = entry.store().get(vms, &id).ok_or(NOT_FOUND)?;
        return match entry.store().workload(&record) {
            Ok(workload) => Ok(Json(workload).into_response()),
            Err(error) => Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()),
        };
    }
    let kind = entry.spec().kind(&collection).ok_or(NOT_FOUND)?;
    let record = match entry.live_source() {
        Some(live) => {
            let query = LiveQuery { kind: kind.name, token: token.as_deref(), ..LiveQuery::default() };
            live.list(query).await?.into_iter().find(|r| *r.id == *id)
        }
        None => entry.store().get(kind.name, &id),
    };
    let record = record.ok_or(NOT_FOUND)?;
    let mut body = Vec::with_capacity(4096);
    entry.store().view(kind.name).ok_or(NOT_FOUND)?.append(&record, MAX_DETAIL, &mut body);
    Ok(json_text(body))
}

fn json_text(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
