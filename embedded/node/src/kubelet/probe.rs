//! Readiness probes over HTTP and TCP, sent to the pod's address.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::mpsc;

use super::pod::Message;

/// Probes until the container ends; tells whenever the answer changes.
pub async fn readiness(
    probe: Probe,
    container: Container,
    ip: Ipv4Addr,
    index: usize,
    run: u32,
    sender: mpsc::UnboundedSender<Message>,
) {
    let seconds = |value: Option<i32>, default: i32| {
        Duration::from_secs(u64::try_from(value.unwrap_or(default).max(0)).unwrap_or(0))
    };
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let mut ticker = tokio::time::interval(seconds(probe.period_seconds, 10).max(Duration::from_secs(1)));
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let (up, down) = (probe.success_threshold.unwrap_or(1), probe.failure_threshold.unwrap_or(3));
    let (mut ready, mut in_a_row) = (false, 0);
    loop {
        ticker.tick().await;
        let good = tokio::time::timeout(limit, once(&probe, &container, ip)).await.unwrap_or(false);
        in_a_row = if good == ready { 0 } else { in_a_row + 1 };
        if in_a_row >= if ready { down } else { up } {
            ready = good;
            in_a_row = 0;
            if sender.send(Message::Ready { container: index, run, ready }).is_err() {
                return;
            }
        }
    }
}

async fn once(probe: &Probe, container: &Container, ip: Ipv4Addr) -> bool {
    if let Some(http) = &probe.http_get {
        let Some(port) = port(&http.port, container) else { return false };
        let host = http.host.clone().unwrap_or_else(|| ip.to_string());
        let path = http.path.as_deref().unwrap_or("/");
        return status(&host, port, path).await.is_some_and(|code| (200..400).contains(&code));
    }
    if let Some(tcp) = &probe.tcp_socket {
        let Some(port) = port(&tcp.port, container) else { return false };
        let host = tcp.host.clone().unwrap_or_else(|| ip.to_string());
        return tokio::net::TcpStream::connect((host, port)).await.is_ok();
    }
    // exec and gRPC probes are not run: the README says so
    true
}

/// Asks with a minimal HTTP/1.0 request, and reads the status line.
async fn status(host: &str, port: u16, path: &str) -> Option<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect((host, port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/1.33\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    let mut buffer = [0; 64];
    while head.len() < 16 {
        match stream.read(&mut buffer).await.ok()? {
            0 => break,
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&head).split(' ').nth(1)?.get(..3)?.parse().ok()
}

fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => match name.parse() {
            Ok(number) => Some(number),
            Err(_) => container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name))
                .and_then(|port| u16::try_from(port.container_port).ok()),
        },
    }
}
