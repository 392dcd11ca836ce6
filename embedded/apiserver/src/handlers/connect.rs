//! Subresources that are tunnels: pods/exec, attach and portforward to the kubelet endpoint of the pod's node, and
//! pods/proxy and services/proxy to what listens there.
//!
//! ```text
//!  client ══ GET …/pods/p/exec, Upgrade: websocket ══► here ══ GET /exec/NS/P/C, Upgrade: websocket ══► kubelet
//!         ◄═════════════ 101 and then bytes both ways, whatever the sub-protocol (v5.channel.k8s.io …) ═══►
//! ```
//! Nothing of the streams is looked at: what client and kubelet agree on, they speak.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::logs::{kubelet_address, pod_container};
use crate::auth::{WEBSOCKET_TOKEN, impersonate};
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::request::{Params, Target};
use crate::server::{LongRunning, Server};
use crate::storage::Key;

/// Longest wait for a connection to the other side.
const CONNECT: Duration = Duration::from_secs(10);
/// Parameters that the kubelet is told, by subresource.
const PASSED: &[(&str, &[&str])] = &[
    ("exec", &["command", "stdin", "stdout", "stderr", "tty"]),
    ("attach", &["stdin", "stdout", "stderr", "tty"]),
    ("portforward", &["ports"]),
];

/// Whether the path is one that this file serves.
pub fn is_connect(target: &Target) -> bool {
    let subresource = target.subresource.split('/').next().unwrap_or_default();
    target.group.is_empty()
        && match target.plural.as_str() {
            "pods" => matches!(subresource, "exec" | "attach" | "portforward" | "proxy"),
            "services" => subresource == "proxy",
            _ => false,
        }
}

/// What the client asks of the subresource, as webhooks are shown it.
pub fn options(target: &Target, uri: &http::Uri) -> Value {
    let subresource = target.subresource.split('/').next().unwrap_or_default();
    let kind = match (target.plural.as_str(), subresource) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("services", _) => "ServiceProxyOptions",
        _ => "PodProxyOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    let asked = reqwest::Url::parse(&format!("http://client/?{}", uri.query().unwrap_or_default()));
    for (name, value) in asked.iter().flat_map(|url| url.query_pairs()) {
        match name.as_ref() {
            "stdin" | "stdout" | "stderr" | "tty" => options[name.as_ref()] = matches!(&*value, "1" | "true").into(),
            "container" => options["container"] = value.as_ref().into(),
            "command" | "ports" => {
                let list = &mut options[name.as_ref()];
                if !list.is_array() {
                    *list = json!([]);
                }
                if let Value::Array(list) = list {
                    list.push(value.as_ref().into());
                }
            }
            _ => {}
        }
    }
    options
}

/// Serves the tunnel.
pub async fn serve(server: Arc<Server>, target: Target, parts: Parts, body: Body) -> ApiResult<Response> {
    let subresource = target.subresource.split('/').next().unwrap_or_default();
    match (target.plural.as_str(), subresource) {
        ("pods", "proxy") => {
            let address = pod_address(&server, &target)?;
            forward(&server, &address, proxied_path(&parts, &target), parts, body, None).await
        }
        ("services", "proxy") => {
            let address = service_address(&server, &target)?;
            forward(&server, &address, proxied_path(&parts, &target), parts, body, None).await
        }
        _ => {
            let (address, path) = kubelet_path(&server, &target, &parts, subresource)?;
            if !parts.headers.contains_key(header::UPGRADE) {
                return Err(ApiError::bad_request("Upgrade request required"));
            }
            forward(&server, &address, path, parts, body, Some(&server.kubelet_token)).await
        }
    }
}

fn find(server: &Server, target: &Target) -> ApiResult<Value> {
    let resource: Arc<str> = format!("/{}", target.plural).into();
    // proxy names may be scheme:name:port
    let name = proxied_name(&target.name).1;
    let object = server.store.get(&Key::new(&resource, &target.namespace, name));
    object.map(|o| o.value()).ok_or_else(|| ApiError::not_found("", &target.plural, name))
}

fn kubelet_path(server: &Server, target: &Target, parts: &Parts, subresource: &str) -> ApiResult<(String, String)> {
    let pod = find(server, target)?;
    let name = &target.name;
    let params = Params::parse(&parts.uri)?;
    let mut segments = match subresource {
        "portforward" => vec!["portForward", &target.namespace, name],
        other => vec![other, &target.namespace, name],
    };
    let container;
    if subresource != "portforward" {
        container = pod_container(name, &pod, params.text("container"))?;
        segments.push(&container);
    }
    let node = meta::text(&pod, "/spec/nodeName");
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let address = kubelet_address(server, node)?;
    let mut url = reqwest::Url::parse("http://kubelet")
        .map_err(|error| ApiError::internal(format_args!("cannot make the kubelet's URL: {error}")))?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(segments);
    }
    let passed = PASSED.iter().find(|(s, _)| *s == subresource).map_or(&[][..], |(_, names)| *names);
    // taken from the query itself: `command` comes once for each word
    if let Ok(asked) = reqwest::Url::parse(&format!("http://client/?{}", parts.uri.query().unwrap_or_default())) {
        for (key, value) in asked.query_pairs().filter(|(key, _)| passed.contains(&key.as_ref())) {
            url.query_pairs_mut().append_pair(&key, &value);
        }
    }
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    Ok((address, format!("{}{query}", url.path())))
}

/// `[scheme:]name[:port]`.
fn proxied_name(text: &str) -> (&str, &str, &str) {
    let pieces: Vec<&str> = text.split(':').collect();
    match pieces.as_slice() {
        [scheme, name, port] => (scheme, name, port),
        [name, port] => ("", name, port),
        _ => ("", text, ""),
    }
}

/// What follows `/proxy` in the path as the client wrote it, with the query.
fn proxied_path(parts: &Parts, target: &Target) -> String {
    let path = parts.uri.path();
    let plural = &target.plural;
    // …/pods/NAME/proxy/REST: the segment after the plural is the name
    let rest = path
        .split_once(&format!("/{plural}/"))
        .and_then(|(_, rest)| rest.split_once('/'))
        .and_then(|(_, rest)| rest.strip_prefix("proxy"))
        .unwrap_or_default();
    let rest = if rest.starts_with('/') { rest.to_string() } else { format!("/{rest}") };
    match parts.uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest,
    }
}

fn plain_scheme(scheme: &str) -> ApiResult<()> {
    match scheme {
        "" | "http" => Ok(()),
        other => Err(ApiError::bad_request(format!("cannot proxy with scheme {other:?}; only http is served"))),
    }
}

/// Pods and services have addresses of their own; nothing else on the machine is reached through a proxy.
fn proxyable(text: &str) -> ApiResult<IpAddr> {
    let refused = || ApiError::bad_request(format!("address {text:?} is not allowed"));
    let address: IpAddr = text.parse().map_err(|_| refused())?;
    let own = match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            (first == 127 && second < 32) || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast(),
    };
    if own { Err(refused()) } else { Ok(address) }
}

fn join(address: IpAddr, port: i64) -> String {
    match address {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

fn pod_address(server: &Server, target: &Target) -> ApiResult<String> {
    let pod = find(server, target)?;
    let (scheme, name, port) = proxied_name(&target.name);
    plain_scheme(scheme)?;
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let mut ports = containers.flat_map(|c| c.get("ports").and_then(Value::as_array).into_iter().flatten());
    let number = |p: &Value| p.get("containerPort").and_then(Value::as_i64);
    let port = if port.is_empty() {
        ports.find_map(number).unwrap_or(80)
    } else if let Ok(port) = port.parse() {
        port
    } else {
        let named = ports.find(|p| meta::text(p, "/name") == port).and_then(number);
        named.ok_or_else(|| ApiError::bad_request(format!("no port {port:?} in pod {name:?}")))?
    };
    let ip = meta::text(&pod, "/status/podIP");
    if ip.is_empty() {
        return Err(ApiError::unavailable(format!("pod {name} has no address yet")));
    }
    Ok(join(proxyable(ip)?, port))
}

fn service_address(server: &Server, target: &Target) -> ApiResult<String> {
    let service = find(server, target)?;
    let (scheme, name, wanted) = proxied_name(&target.name);
    plain_scheme(scheme)?;
    let ports: Vec<&Value> = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten().collect();
    let number = |p: &Value| p.get("port").and_then(Value::as_i64);
    let port = match (wanted, ports.as_slice()) {
        ("", [only]) => number(only),
        ("", _) => None,
        (wanted, ports) => {
            let fits =
                |p: &&&Value| meta::text(p, "/name") == wanted || number(p).is_some_and(|n| n.to_string() == wanted);
            ports.iter().find(fits).and_then(|p| number(p))
        }
    };
    let port =
        port.ok_or_else(|| ApiError::unavailable(format!("no endpoints available for service \"{}\"", target.name)))?;
    let ip = meta::text(&service, "/spec/clusterIP");
    if ip.is_empty() || ip == "None" {
        return Err(ApiError::unavailable(format!("service {name:?} has no cluster address to proxy to")));
    }
    Ok(join(proxyable(ip)?, port))
}

/// Headers for the other side: the client's without its credentials.
pub fn passed_headers(from: &HeaderMap, address: &str, token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in from {
        if !impersonate::is_credential(name.as_str()) && name != header::HOST {
            headers.append(name, value.clone());
        }
    }
    if let Some(offers) = from.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok()) {
        let kept: Vec<&str> = offers.split(',').map(str::trim).filter(|p| !p.starts_with(WEBSOCKET_TOKEN)).collect();
        if let Ok(kept) = HeaderValue::from_str(&kept.join(", ")) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
        }
    }
    if let Ok(host) = HeaderValue::from_str(address) {
        headers.insert(header::HOST, host);
    }
    if let Some(token) = token.filter(|t| !t.is_empty())
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

/// Passes the request on and the answer back; after a 101, bytes both ways.
async fn forward(
    server: &Arc<Server>,
    address: &str,
    path: String,
    mut parts: Parts,
    body: Body,
    token: Option<&str>,
) -> ApiResult<Response> {
    let unreachable =
        |error: &dyn std::fmt::Display| ApiError::unavailable(format!("error trying to reach {address}: {error}"));
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(&"timed out"))?
        .map_err(|error| unreachable(&error))?;
    // keystrokes should not wait for more; without this it is only slower
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let connection = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let client = parts.extensions.remove::<OnUpgrade>();
    let open = parts.extensions.remove::<LongRunning>();
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = path.parse().map_err(|e| ApiError::bad_request(format!("cannot proxy to this path: {e}")))?;
    *request.headers_mut() = passed_headers(&parts.headers, address, token);
    let mut response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(Body::new));
    }
    let Some(client) = client else {
        connection.abort();
        return Err(ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"));
    };
    let upstream = hyper::upgrade::on(&mut response);
    let stop = server.stop.clone();
    tokio::spawn(async move {
        let _open = open;
        match tokio::try_join!(client, upstream) {
            Ok((client, upstream)) => {
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                tokio::select! {
                    copied = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {
                        if let Err(error) = copied {
                            tracing::debug!(%error, "a tunnel ended");
                        }
                    }
                    () = stop.cancelled() => {}
                }
            }
            Err(error) => tracing::debug!(%error, "a tunnel did not come up"),
        }
    });
    Ok(response.map(|_| Body::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_of_proxies_are_taken_apart() {
        assert_eq!(proxied_name("p"), ("", "p", ""));
        assert_eq!(proxied_name("p:8080"), ("", "p", "8080"));
        assert_eq!(proxied_name("http:p:web"), ("http", "p", "web"));
        let show = |uri: &str| {
            let (parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            proxied_path(&parts, &Target::parse(parts.uri.path()).unwrap())
        };
        assert_eq!(show("/api/v1/namespaces/a/pods/p/proxy"), "/");
        assert_eq!(show("/api/v1/namespaces/a/pods/p:80/proxy/"), "/");
        assert_eq!(show("/api/v1/namespaces/a/services/p/proxy/x%2Fy/z/?q=1"), "/x%2Fy/z/?q=1");
    }

    #[test]
    fn a_proxy_reaches_pods_and_services_only() {
        assert!(proxyable("127.64.0.1").is_ok() && proxyable("127.32.0.9").is_ok() && proxyable("10.1.2.3").is_ok());
        for address in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "x"] {
            assert!(proxyable(address).is_err(), "{address}");
        }
    }
}
