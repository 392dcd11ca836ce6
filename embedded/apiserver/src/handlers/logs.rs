//! pods/NAME/log: passed through from the kubelet endpoint of the pod's node, as a stream.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::read;
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::request::Context;
use crate::server::Server;
use crate::storage::Key;

const PASSED: &[&str] = &["follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "previous", "limitBytes"];

/// GET.
pub async fn logs(server: &Server, context: &Context) -> ApiResult<Response> {
    let pod = read::find(server, context)?.value();
    let container = pod_container(&context.target.name, &pod, context.params.text("container"))?;
    let name = &context.target.name;
    let node = meta::text(&pod, "/spec/nodeName");
    if node.is_empty() {
        // a pod that has no node has not said anything
        let mut nothing = Response::new(Body::empty());
        nothing.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return Ok(nothing);
    }
    let address = kubelet_address(server, node)?;
    let mut url = reqwest::Url::parse(&format!("http://{address}"))
        .map_err(|e| ApiError::internal(format_args!("node {node} has a bad address {address}: {e}")))?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(["containerLogs", &context.target.namespace, name, &container]);
    }
    for parameter in PASSED.iter().filter(|p| context.params.has(p)) {
        url.query_pairs_mut().append_pair(parameter, context.params.text(parameter));
    }
    let response = server.kubelet.get(url).bearer_auth(&server.kubelet_token).send().await;
    let response = response.map_err(|e| {
        ApiError::internal(format_args!("cannot reach the kubelet of node {node} at {address} for logs: {e}"))
    })?;
    let code = response.status();
    if !code.is_success() {
        let text = response.text().await.unwrap_or_default();
        let text = text.trim();
        return Err(match code {
            StatusCode::NOT_FOUND => {
                ApiError { code: 404, reason: "NotFound", message: text.to_string(), details: None }
            }
            _ => ApiError::bad_request(if text.is_empty() {
                format!("the kubelet of node {node} answered {code}")
            } else {
                text.to_string()
            }),
        });
    }
    let stop = server.stop.clone();
    let stream = async_stream::stream! {
        let mut response = response;
        loop {
            tokio::select! {
                chunk = response.chunk() => match chunk {
                    Ok(Some(chunk)) => yield Ok(chunk),
                    Ok(None) => return,
                    Err(error) => { yield Err(error); return }
                },
                () = stop.cancelled() => return,
            }
        }
    };
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The container that is asked for, or the only one.
pub fn pod_container(pod_name: &str, pod: &Value, asked: &str) -> ApiResult<String> {
    let names = |field: &str| -> Vec<String> {
        let list = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).into_iter().flatten();
        list.map(|c| meta::text(c, "/name").to_string()).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    if !asked.is_empty() {
        return match main.iter().chain(&init).find(|n| *n == asked) {
            Some(name) => Ok(name.clone()),
            None => Err(ApiError::bad_request(format!("container {asked} is not valid for pod {pod_name}"))),
        };
    }
    match main.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            main.join(" ")
        ))),
    }
}

/// Address and port of the node's kubelet endpoint.
pub fn kubelet_address(server: &Server, node: &str) -> ApiResult<String> {
    let object = server
        .store
        .get(&Key::new(&"/nodes".into(), "", node))
        .ok_or_else(|| ApiError::not_found("", "nodes", node))?;
    let value = object.value();
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array).into_iter().flatten();
    let ip = addresses
        .filter(|a| meta::text(a, "/type") == "InternalIP")
        .map(|a| meta::text(a, "/address").to_string())
        .next();
    let port = value.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_i64);
    match (ip, port) {
        (Some(ip), Some(port)) if ip.contains(':') => Ok(format!("[{ip}]:{port}")),
        (Some(ip), Some(port)) => Ok(format!("{ip}:{port}")),
        _ => Err(ApiError::internal(format_args!("node {node} names no InternalIP and kubelet port in its status"))),
    }
}
