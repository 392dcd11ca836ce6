//! One attempt of a probe: a program in the container, a request, a connection.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Subject, grpc, tls};

/// As much of an answer as a message shows.
const SHOWN: usize = 1024;

/// Probes once; an error says what was wrong, as `kubectl describe` shows it.
pub(super) async fn once(probe: &Probe, subject: &Subject) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        let end = subject.running.execute(exec.command.clone().unwrap_or_default()).await;
        return match end {
            Ok((0, _)) => Ok(()),
            Ok((code, said)) if said.is_empty() => Err(format!("command exited with {code}")),
            Ok((_, said)) => Err(said),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(action) = &probe.http_get {
        return http(action, &subject.container, subject.ip).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port(&tcp.port, &subject.container)?;
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| subject.ip.to_string());
        return connect(&host, port).await.map(|_| ());
    }
    if let Some(action) = &probe.grpc {
        let port = u16::try_from(action.port).map_err(|_| format!("{} is not a port", action.port))?;
        return grpc::health(subject.ip, port, action.service.as_deref().unwrap_or_default()).await;
    }
    Ok(())
}

/// Asks a path over HTTP or HTTPS; an answer from 200 to 399 is good.
pub(super) async fn http(action: &HTTPGetAction, container: &Container, ip: Ipv4Addr) -> Result<(), String> {
    let port = port(&action.port, container)?;
    let host = action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_string());
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("GET {slash}{path} HTTP/1.1\r\nConnection: close\r\n");
    let headers = action.http_headers.iter().flatten();
    let mut own: Vec<(String, String)> = headers.map(|header| (header.name.clone(), header.value.clone())).collect();
    for (name, value) in
        [("Host", format!("{host}:{port}")), ("User-Agent", "kube-probe/1.33".into()), ("Accept", "*/*".into())]
    {
        if !own.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            own.push((name.into(), value));
        }
    }
    // a line break would begin another header
    for (name, value) in own.iter().filter(|(name, value)| !(name.clone() + value).contains(['\r', '\n'])) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let stream = connect(&host, port).await?;
    let code = if action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        status(tls::wrap(stream, &host).await?, &head).await?
    } else {
        status(stream, &head).await?
    };
    if (200..400).contains(&code) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

/// Sends a request and reads the status line of the answer.
async fn status(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> Result<u16, String> {
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 64];
    while !answer.contains(&b'\n') && answer.len() < SHOWN {
        match stream.read(&mut buffer).await.map_err(|error| error.to_string())? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    code.ok_or_else(|| format!("malformed HTTP response {:?}", line.lines().next().unwrap_or_default()))
}

/// Finds a port by number or by name.
pub(super) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let found = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            let mut ports = container.ports.iter().flatten();
            let port = ports.find(|port| port.name.as_deref() == Some(name))?;
            u16::try_from(port.container_port).ok()
        }),
    };
    found.ok_or_else(|| match port {
        IntOrString::Int(number) => format!("{number} is not a port"),
        IntOrString::String(name) => format!("the container has no port named {name:?}"),
    })
}
