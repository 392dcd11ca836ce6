//! /livez, /readyz and /healthz with their checks: `?verbose` lists them, `?exclude=NAME` leaves one out, and each has
//! a path of its own. The form is kube-apiserver's: <https://kubernetes.io/docs/reference/using-api/health-checks/>

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};

use crate::error::{ApiError, ApiResult};
use crate::server::Server;

struct Check {
    name: &'static str,
    holds: fn(&Server) -> bool,
    /// Endpoints that leave it out.
    not_for: &'static [&'static str],
}

const CHECKS: &[Check] = &[
    Check { name: "ping", holds: |_| true, not_for: &[] },
    Check { name: "log", holds: |_| true, not_for: &[] },
    // named as kube-apiserver names its store, so that probes of one path work on both
    Check { name: "etcd", holds: |server| !server.store.is_closed(), not_for: &[] },
    Check { name: "poststarthook/rbac/bootstrap-roles", holds: Server::is_bootstrapped, not_for: &[] },
    Check { name: "informer-sync", holds: |_| true, not_for: &["livez", "healthz"] },
    Check {
        name: "shutdown",
        holds: |server| !server.draining.load(Ordering::Relaxed),
        // a server that is going is alive until it is gone
        not_for: &["livez", "healthz"],
    },
];

fn text(code: StatusCode, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// GET of `/livez`, `/readyz`, `/healthz` or one check below them.
pub fn answer(server: &Server, endpoint: &str, check: &str, uri: &Uri) -> ApiResult<Response> {
    let checks: Vec<&Check> = CHECKS.iter().filter(|c| !c.not_for.contains(&endpoint)).collect();
    if !check.is_empty() {
        let one = checks.iter().find(|c| c.name == check).ok_or_else(ApiError::no_such_path)?;
        return Ok(if (one.holds)(server) {
            text(StatusCode::OK, "ok".into())
        } else {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {check} failed\n"))
        });
    }
    let query = uri.query().unwrap_or_default();
    let parameters: Vec<(&str, &str)> = query.split('&').map(|p| p.split_once('=').unwrap_or((p, ""))).collect();
    let excluded: Vec<String> =
        parameters.iter().filter(|(k, _)| *k == "exclude").map(|(_, v)| crate::request::decode_segment(v)).collect();
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        // writing to a String cannot fail
        let _ = if excluded.iter().any(|e| e == check.name) {
            writeln!(report, "[+]{} excluded: ok", check.name)
        } else if (check.holds)(server) {
            writeln!(report, "[+]{} ok", check.name)
        } else {
            failed = true;
            writeln!(report, "[-]{} failed: reason withheld", check.name)
        };
    }
    if failed {
        report.push_str(endpoint);
        report.push_str(" check failed\n");
        return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, report));
    }
    if !parameters.iter().any(|(k, _)| *k == "verbose") {
        return Ok(text(StatusCode::OK, "ok".into()));
    }
    report.push_str(endpoint);
    report.push_str(" check passed\n");
    Ok(text(StatusCode::OK, report))
}

/// All paths, for the index at `/`.
pub fn paths() -> Vec<String> {
    let below = |endpoint: &'static str| {
        let own = CHECKS.iter().filter(move |c| !c.not_for.contains(&endpoint));
        std::iter::once(format!("/{endpoint}")).chain(own.map(move |c| format!("/{endpoint}/{}", c.name)))
    };
    ["healthz", "livez", "readyz"].into_iter().flat_map(below).collect()
}
