//! gRPC probes: `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as kubelet asks.
//!
//! The one message each way is small enough to be written and read by hand: a frame of five bytes (not compressed, length)
//! around `service = 1` (a string) and `status = 1` (an enum, 1 is SERVING).
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

const SERVING: u8 = 1;

/// Asks a server whether a service of it serves.
pub(super) async fn health(ip: Ipv4Addr, port: u16, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect((ip, port))
        .await
        .map_err(|error| format!("timeout: failed to connect service \"{ip}:{port}\" within 1s: {error}"))?;
    let failed = |error: hyper::Error| format!("error: health rpc failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    // ends with the sender
    tokio::spawn(connection);
    let request = hyper::Request::post(format!("http://{ip}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.33")
        .body(Full::new(question(service)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let at_once = answer.headers().get("grpc-status").cloned();
    let body = answer.into_body().collect().await.map_err(failed)?;
    let code = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()).or(at_once);
    let code = code.as_ref().and_then(|code| code.to_str().ok()).unwrap_or("2");
    match (code, status(&body.to_bytes())) {
        ("0", Some(SERVING)) => Ok(()),
        ("0", status) => Err(format!("service unhealthy (responded with status {})", status.unwrap_or(0))),
        ("12", _) => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into())
        }
        (code, _) => Err(format!("error: health rpc failed: status {code}")),
    }
}

fn question(service: &str) -> Bytes {
    let name = &service.as_bytes()[..service.len().min(127)];
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend([0x0a, name.len() as u8]);
        message.extend_from_slice(name);
    }
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The status in a framed answer; a status of zero is not written at all.
fn status(framed: &[u8]) -> Option<u8> {
    match framed.get(5..)? {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!((status(&[0, 0, 0, 0, 0]), status(&[0, 0])), (Some(0), None));
    }
}
