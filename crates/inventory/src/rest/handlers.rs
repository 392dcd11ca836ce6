//! What each path answers.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::auth::{Access, bearer};
use super::list::{self, List};
use super::query::{MAX_DETAIL, Parameters};
use super::refusal::{Refusal, header_line};
use super::{PROVIDER_TYPES, Service, watch};
use crate::view::tree_text;
use crate::{Asked, KindSpec, LiveError, LiveQuery, ProviderEntry, Record, Store, find};

type Pairs = Query<Vec<(String, String)>>;

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
    /// When the records were current that the source has not confirmed yet.
    taken: Option<SystemTime>,
}

impl Granted {
    /// Marks an answer that the source has not confirmed: 206, and its age.
    fn marked(&self, mut response: Response) -> Response {
        if let Some(taken) = self.taken {
            if response.status() == StatusCode::OK {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            response.headers_mut().insert(header::AGE, taken.elapsed().unwrap_or_default().as_secs().into());
            response.headers_mut().remove(header::ETAG);
        }
        response
    }

    /// The tag of an answer; none for what the source has not confirmed.
    fn etag(&self, version: &str, request: impl Hash) -> Option<String> {
        self.taken.is_none().then(|| list::etag(version, request))
    }
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
        return Err(Refusal { reason: Some("ProviderNotFound"), ..NOT_FOUND.into() });
    };
    let access = Access::Provider { namespace: entry.namespace(), name: entry.name() };
    service.authorizer.permit(&user, &access).await?;
    if entry.spec().provider_type != provider_type {
        return Err(NOT_FOUND.into());
    }
    let restored = entry.store().restored();
    // what an earlier run left can be shown at once
    let limit = if parameters.stale && restored.is_some() { Duration::ZERO } else { service.parity_limit };
    let taken = match entry.await_parity(limit).await {
        true => None,
        false => Some(restored.ok_or(StatusCode::PARTIAL_CONTENT)?),
    };
    Ok(Granted { entry, parameters, token: token.map(str::to_owned), taken })
}

pub(super) async fn provider(
    State(service): State<Service>,
    Path((provider_type, uid)): Path<(String, String)>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Refusal> {
    let granted = provider_request(&service, &headers, &provider_type, &uid, &pairs).await?;
    let resource = provider_resource(&granted.entry, MAX_DETAIL, granted.token.as_deref()).await?;
    Ok(granted.marked(Json(resource).into_response()))
}

pub(super) async fn collection(
    State(service): State<Service>,
    Path((provider_type, uid, collection)): Path<(String, String, String)>,
    headers: HeaderMap,
    Query(pairs): Pairs,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let granted = provider_request(&service, &headers, &provider_type, &uid, &pairs).await?;
    let Granted { entry, parameters, token, .. } = &granted;
    let kind = entry.spec().kind(&collection).ok_or(NOT_FOUND)?;
    if let Some(option) = headers.get(watch::HEADER) {
        if entry.live_source().is_some() {
            return Err(StatusCode::NOT_IMPLEMENTED.into());
        }
        if granted.taken.is_some() {
            return Err(StatusCode::PARTIAL_CONTENT.into());
        }
        let snapshot = option.as_bytes() == watch::SNAPSHOT;
        return match upgrade {
            Ok(upgrade) => Ok(watch::answer(upgrade, entry.clone(), kind, snapshot, service.metrics.clone())),
            Err(rejection) => Ok(rejection.into_response()),
        };
    }
    let (records, version) = match entry.live_source() {
        Some(live) => {
            let query = LiveQuery {
                kind: kind.name,
                namespace: parameters.namespace.as_deref(),
                name: parameters.name.as_deref(),
                token: token.as_deref(),
            };
            (live.list(query).await?.into(), None)
        }
        None => {
            let (records, version) = entry.store().versioned(kind.name);
            let request: Vec<_> = pairs.iter().filter(|(key, _)| key != "stale").collect();
            let etag = granted.etag(&version, (&uid, kind.name, request));
            if let Some(etag) = etag.as_deref().filter(|etag| list::is_known(&headers, etag)) {
                return Ok(list::not_modified(etag));
            }
            match &parameters.name {
                Some(name) => (find::by_name(kind, entry.store(), name).into(), etag),
                None => (records, etag),
            }
        }
    };
    let chosen = choose(entry.store(), kind, records, parameters).await?;
    let total = chosen.total;
    let mut response = match chosen.shown {
        Shown::Records(records) => {
            let list = List {
                store: entry.store().clone(),
                kind: kind.name,
                records,
                detail: kind.list_detail(parameters.detail),
            };
            list::stream(&headers, &service.lists, version.as_deref(), list)
        }
        Shown::Text(text) => list::answer(&headers, version.as_deref(), text.into()),
    };
    response.headers_mut().insert(TOTAL, total.into());
    if let Some(warning) = chosen.warning.as_deref().and_then(header_line) {
        response.headers_mut().insert(WARNING, warning);
    }
    Ok(granted.marked(response))
}

/// How many records there are before `limit` and `offset`.
const TOTAL: HeaderName = HeaderName::from_static("x-total-count");
/// That some records do not fit the query, and why.
const WARNING: HeaderName = HeaderName::from_static("forklift-warning");
/// More records are looked at in a thread of their own.
const MANY: usize = 256;

struct Chosen {
    shown: Shown,
    total: usize,
    warning: Option<String>,
}

enum Shown {
    Records(Arc<[Arc<Record>]>),
    /// What `select` leaves of them.
    Text(Vec<u8>),
}

/// Leaves out what lists do not show, then applies the query, then the page.
async fn choose(
    store: &Arc<Store>,
    kind: &'static KindSpec,
    records: Arc<[Arc<Record>]>,
    parameters: &Parameters,
) -> Result<Chosen, Refusal> {
    let visible = match kind.hidden {
        Some(hidden) if records.iter().any(|record| hidden(record)) => {
            records.iter().filter(|record| !hidden(record)).cloned().collect()
        }
        _ => records,
    };
    let paged = parameters.limit.is_some() || parameters.offset > 0;
    let Some(query) = &parameters.query else {
        let total = visible.len();
        let shown = if paged { parameters.page(visible.to_vec()).into() } else { visible };
        return Ok(Chosen { shown: Shown::Records(shown), total, warning: None });
    };
    let (store, query, parameters) = (store.clone(), query.clone(), parameters.clone());
    let many = visible.len() > MANY;
    let run = move || queried(&store, kind, &visible, &query, &parameters);
    if many { tokio::task::spawn_blocking(run).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)? } else { run() }
}

fn queried(
    store: &Store,
    kind: &'static KindSpec,
    records: &[Arc<Record>],
    query: &forklift_lang::Query,
    parameters: &Parameters,
) -> Result<Chosen, Refusal> {
    let view = store.view(kind.name).ok_or(NOT_FOUND)?;
    let roots = query.roots();
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let outcome = query.run(records.iter(), |record| view.pick(record, &roots));
    let warning = outcome.warning();
    if let (true, Some(warning)) = (parameters.strict, &warning) {
        return Err(Refusal::bad(warning.clone()));
    }
    let total = outcome.matched;
    let page: Vec<Arc<Record>> = parameters.page(outcome.items.into_iter().cloned().collect());
    let shown = if query.select.is_empty() {
        Shown::Records(page.into())
    } else {
        let rows = page.iter().map(|record| query.project(&view.pick(record, &roots)).into());
        Shown::Text(Value::Array(rows.collect()).to_string().into_bytes())
    };
    Ok(Chosen { shown, total, warning })
}

pub(super) async fn resource(
    State(service): State<Service>,
    Path((provider_type, uid, collection, id)): Path<(String, String, String, String)>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Response, Refusal> {
    let granted = provider_request(&service, &headers, &provider_type, &uid, &pairs).await?;
    let Granted { entry, parameters, token, .. } = &granted;
    let store = entry.store();
    if collection == "tree" {
        let Some(live) = entry.live_source() else {
            let tree = entry.spec().trees.iter().find(|tree| tree.name == id).ok_or(NOT_FOUND)?;
            let etag = granted.etag(&store.version(), (&uid, "tree", tree.name, parameters.detail));
            if let Some(etag) = etag.as_deref().filter(|etag| list::is_known(&headers, etag)) {
                return Ok(list::not_modified(etag));
            }
            let text = tree_text(store, &(tree.build)(store, parameters.detail));
            return Ok(granted.marked(list::answer(&headers, etag.as_deref(), text.into())));
        };
        let tree = live.tree(&id, parameters.detail, token.as_deref()).await.ok_or(NOT_FOUND)??;
        return Ok(Json(tree).into_response());
    }
    if collection == "workloads" {
        let vms = entry.spec().workloads.ok_or(NOT_FOUND)?;
        let record = store.get(vms, &id).ok_or(NOT_FOUND)?;
        return match store.workload(&record) {
            Ok(workload) => Ok(granted.marked(list::answer(&headers, None, workload.to_string().into()))),
            Err(error) => Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()),
        };
    }
    let kind = entry.spec().kind(&collection).ok_or(NOT_FOUND)?;
    let record = match entry.live_source() {
        Some(live) => {
            let query = LiveQuery { kind: kind.name, token: token.as_deref(), ..LiveQuery::default() };
            live.list(query).await?.into_iter().find(|r| *r.id == *id)
        }
        None => store.get(kind.name, &id),
    };
    let record = record.ok_or(NOT_FOUND)?;
    let wanted = kind.asked.and_then(|asked| {
        let (_, key) = pairs.iter().find(|(name, value)| name == asked.parameter && !value.is_empty())?;
        Some((asked, key))
    });
    if let Some((asked, key)) = wanted {
        return with_asked(&granted, kind, &record, asked, key).await;
    }
    let etag = match entry.live_source() {
        Some(_) => None,
        None => granted.etag(&store.tag(&record), (&uid, kind.name, &id)),
    };
    if let Some(etag) = etag.as_deref().filter(|etag| list::is_known(&headers, etag)) {
        return Ok(list::not_modified(etag));
    }
    let view = store.view(kind.name).ok_or(NOT_FOUND)?;
    let make = || {
        let mut body = Vec::with_capacity(8192);
        view.append(&record, MAX_DETAIL, &mut body);
        body
    };
    let body = match etag.as_deref() {
        Some(etag) => service.texts.text(etag, &format!("{uid}/{collection}/{id}"), make),
        None => make().into(),
    };
    Ok(granted.marked(list::answer(&headers, etag.as_deref(), body)))
}

/// How long the source may take for what is not kept.
const LOOK: Duration = Duration::from_secs(15);

/// Shows a record with something that the source is asked for. What cannot be had is `null`, and why is in
/// `forklift-warning`.
async fn with_asked(
    granted: &Granted,
    kind: &'static KindSpec,
    record: &Record,
    asked: Asked,
    key: &str,
) -> Result<Response, Refusal> {
    let store = granted.entry.store();
    let mut shown = store.view(kind.name).ok_or(NOT_FOUND)?.value(record, MAX_DETAIL);
    let found = store.look(kind.name, &record.id, key, LOOK).await;
    let warning = found.as_ref().err().and_then(|why| header_line(&format!("{}={key}: {why}", asked.parameter)));
    shown[asked.key] = found.unwrap_or_default();
    let mut response = list::answer(&HeaderMap::new(), None, shown.to_string().into());
    if let Some(warning) = warning {
        response.headers_mut().insert(WARNING, warning);
    }
    Ok(granted.marked(response))
}

pub(super) async fn metrics(State(service): State<Service>) -> Response {
    let text = service.metrics.text(&service.inventory);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
