//! `GET /tls-certificate?URL=<https address>`: the certificate that a server shows, as PEM, for a person to look at before
//! it is trusted.
//!
//! Callers show a token as they do to the inventory (upstream asks nobody). Only https addresses are dialled, and nothing
//! but the handshake is sent. 400: not an https address; 500: nobody there speaks TLS.
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use forklift_inventory::rest::{Authorizer, Denied};
use forklift_providers::tls::{LeafError, leaf};
use serde::Deserialize;
use tokio::sync::Semaphore;

/// How many servers are dialled at a time.
const AT_ONCE: usize = 16;

#[derive(Clone)]
struct Service {
    authorizer: Arc<dyn Authorizer>,
    patience: Duration,
    room: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(rename = "URL", alias = "url")]
    url: Option<String>,
}

/// Returns the route. `patience` is how long a server may take to answer.
pub fn router(authorizer: Arc<dyn Authorizer>, patience: Duration) -> Router {
    let service = Service { authorizer, patience, room: Arc::new(Semaphore::new(AT_ONCE)) };
    Router::new().route("/tls-certificate", get(serve)).with_state(service)
}

async fn serve(State(service): State<Service>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    match service.authorizer.authenticate(bearer(&headers)).await {
        Ok(_) => {}
        Err(Denied::Unauthenticated) => return text(StatusCode::UNAUTHORIZED, "the token is missing or not valid"),
        Err(Denied::Forbidden(why)) => return text(StatusCode::FORBIDDEN, &why),
        Err(Denied::Failed(why)) => return text(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
    let Some(url) = wanted.url.filter(|url| !url.trim().is_empty()) else {
        return text(StatusCode::BAD_REQUEST, "the query has no URL: /tls-certificate?URL=https://…");
    };
    let Ok(_place) = service.room.try_acquire() else {
        return text(StatusCode::TOO_MANY_REQUESTS, "too many certificates are being fetched: try again");
    };
    match leaf(&url, service.patience).await {
        Ok(leaf) => ([(header::CONTENT_TYPE, "application/x-pem-file")], leaf.pem()).into_response(),
        Err(error @ LeafError::Address(_)) => text(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ LeafError::Unreachable(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn text(status: StatusCode, message: &str) -> Response {
    (status, message.to_owned()).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (scheme == "Bearer" && !token.trim().is_empty()).then(|| token.trim())
}
