//! Passing a request on, with the maker's identity, and both ways of an upgraded connection. Who comes here has been
//! authorized as for any other resource (`gate`).

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use hyper_util::rt::TokioIo;

use super::{Remote, Shared, backend};
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::handlers::passed_headers;
use crate::server::LongRunning;

/// Headers of one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"];

/// Serves a request below `/apis/GROUP/VERSION` by the server that the group belongs to.
pub async fn forward(server: Shared, remote: Remote, mut request: Request<Body>) -> ApiResult<Response> {
    let user = request.extensions().get::<User>().cloned().ok_or_else(ApiError::unauthorized)?;
    let unavailable = |(_, why): backend::Unreachable| {
        tracing::warn!(group = remote.group, why, "an aggregated API server is not reached");
        ApiError::unavailable("service unavailable")
    };
    let mut sender = backend::connect(&server, &remote).await.map_err(unavailable)?;
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let from_client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let open = request.extensions_mut().remove::<LongRunning>();
    let passed = prepare(request, &remote, &user, upgrade)?;
    let answer = sender.send_request(passed).await;
    let mut answer = answer.map_err(|error| unavailable(("", error.to_string())))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(from_client) = from_client
    {
        let from_server = hyper::upgrade::on(&mut answer);
        let stop = server.stop.clone();
        tokio::spawn(async move {
            let _open = open;
            let (client, other) = match tokio::try_join!(from_client, from_server) {
                Ok((client, other)) => (client, other),
                Err(error) => return tracing::debug!(%error, "an upgraded connection was not made"),
            };
            let (mut client, mut other) = (TokioIo::new(client), TokioIo::new(other));
            tokio::select! {
                // that one side goes away is the usual end
                _ = tokio::io::copy_bidirectional(&mut client, &mut other) => {}
                () = stop.cancelled() => {}
            }
        });
        let (parts, _) = answer.into_parts();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let (mut parts, body) = answer.into_parts();
    strip(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::new(body)))
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The request as the other server gets it.
fn prepare(
    request: Request<Body>,
    remote: &Remote,
    user: &User,
    upgrade: Option<HeaderValue>,
) -> ApiResult<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(|error| ApiError::bad_request(format!("cannot read the path: {error}")))?;
    parts.version = Version::HTTP_11;
    let (namespace, name, _) = &remote.service;
    parts.headers = passed_headers(&parts.headers, &format!("{name}.{namespace}.svc"), None);
    strip(&mut parts.headers);
    // nobody but the proxy says who it is
    let foreign: Vec<HeaderName> =
        parts.headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in foreign {
        parts.headers.remove(name);
    }
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| ApiError::bad_request("the user's name does not fit into a header"))
    };
    parts.headers.insert("x-remote-user", value(&user.name)?);
    if !user.uid.is_empty() {
        parts.headers.insert("x-remote-uid", value(&user.uid)?);
    }
    for group in &user.groups {
        parts.headers.append("x-remote-group", value(group)?);
    }
    if let Some(protocol) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    } else {
        parts.headers.remove(header::UPGRADE);
    }
    // what is known of the client's connection is of no use on this one
    parts.extensions.clear();
    Ok(Request::from_parts(parts, body))
}
