//! exec, attach and port-forward on the kubelet's endpoint: WebSocket with the sub-protocols of Kubernetes.
//!
//! ```text
//! /exec/<ns>/<pod>/<container>?command=sh&stdin=1&stdout=1&stderr=1&tty=0     v5.channel.k8s.io, v4.channel.k8s.io
//! /attach/<ns>/<pod>/<container>?stdin=1&stdout=1                             the same
//! /portForward/<ns>/<pod>?port=8080                                           v4.channel.k8s.io, or SPDY in WebSocket
//! ```
//! A message's first byte is its channel: 0 input, 1 output, 2 error stream, 3 the end as a Status, 4 the terminal's size
//! as JSON; 255 in v5: a channel is closed. An API server passes the upgrade through, with the kubelet's own names of the
//! parameters (`input`, `output`, `error`) or the API's.

mod forward;
mod remote;
mod spdy;

use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use super::Kubelet;
use super::running::Running;
use super::server::allowed;

/// The sub-protocol with a signal that closes one channel.
const V5: &str = "v5.channel.k8s.io";
/// The one before it.
const V4: &str = "v4.channel.k8s.io";
/// Messages that wait for a slow client.
const WAITING: usize = 32;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// What a session of exec or attach is about.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    command: Vec<String>,
    ports: Vec<u16>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for (name, value) in form(query) {
            let on = matches!(value.as_str(), "1" | "true" | "");
            match name.as_str() {
                "command" => asked.command.push(value),
                "stdin" | "input" => asked.stdin = on,
                "stdout" | "output" => asked.stdout = on,
                "stderr" | "error" => asked.stderr = on,
                "tty" => asked.tty = on,
                "port" | "ports" => {
                    for port in value.split(',') {
                        asked.ports.push(port.parse().map_err(|_| format!("{port:?} is not a port"))?);
                    }
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// Reads `name=value&…` with its escapes.
fn form(query: &str) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let pair: Vec<u8> = rest.by_ref().take(2).collect();
                    let pair = std::str::from_utf8(&pair).ok();
                    pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(b'%')
                }
                other => other,
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (plain(name), plain(value))
        })
        .collect()
}

/// Runs a program in a container.
pub async fn exec(
    State(kubelet): State<Arc<Kubelet>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    let (asked, running) = match begin(&kubelet, &headers, &query, &namespace, &pod, &container) {
        Ok(found) => found,
        Err(response) => return *response,
    };
    if asked.command.is_empty() {
        return (StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container\n").into_response();
    }
    accept(upgrade, &[V5, V4], |socket, _| async move { remote::exec(Channels::open(socket), asked, &running).await })
}

/// Connects to a container's own program.
pub async fn attach(
    State(kubelet): State<Arc<Kubelet>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    let (asked, running) = match begin(&kubelet, &headers, &query, &namespace, &pod, &container) {
        Ok(found) => found,
        Err(response) => return *response,
    };
    accept(upgrade, &[V5, V4], |socket, _| async move { remote::attach(Channels::open(socket), asked, &running).await })
}

/// Connects to ports of a pod.
pub async fn port_forward(
    State(kubelet): State<Arc<Kubelet>>,
    Path((namespace, pod)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    if !allowed(&headers, &kubelet.token) {
        return (StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong\n").into_response();
    }
    let asked = match Asked::parse(&query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(message) => return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
    };
    let address = kubelet.uid(&namespace, &pod).and_then(|uid| kubelet.addresses.of(&uid));
    let Some(address) = address else {
        let message = format!("pod {namespace}/{pod} does not run on this node\n");
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    accept(upgrade, &[spdy::TUNNEL, V4], move |socket, protocol| async move {
        if protocol == spdy::TUNNEL {
            forward::tunnel(socket, address).await;
        } else {
            forward::channels(Channels::open(socket), address, &asked.ports).await;
        }
    })
}

fn begin(
    kubelet: &Kubelet,
    headers: &HeaderMap,
    query: &Option<String>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(Asked, Arc<Running>), Box<Response>> {
    let refuse = |code: StatusCode, message: String| Box::new((code, message + "\n").into_response());
    if !allowed(headers, &kubelet.token) {
        return Err(refuse(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong".into()));
    }
    let asked = Asked::parse(query.as_deref().unwrap_or_default());
    let asked = asked.map_err(|message| refuse(StatusCode::BAD_REQUEST, message))?;
    let running = kubelet.uid(namespace, pod).and_then(|uid| kubelet.running.get(&uid, container));
    let missing = || format!("container {container} of pod {namespace}/{pod} is not running on this node");
    Ok((asked, running.ok_or_else(|| refuse(StatusCode::NOT_FOUND, missing()))?))
}

fn accept<F, T>(upgrade: Upgrade, protocols: &'static [&'static str], serve: F) -> Response
where
    F: FnOnce(WebSocket, String) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    match upgrade {
        Ok(upgrade) => upgrade.protocols(protocols.iter().copied()).on_upgrade(|socket| {
            let protocol = socket.protocol().and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
            serve(socket, protocol)
        }),
        Err(rejection) => {
            let message =
                format!("unable to upgrade: {rejection}; only WebSocket is served ({})\n", protocols.join(", "));
            (StatusCode::BAD_REQUEST, message).into_response()
        }
    }
}

/// A WebSocket as numbered channels.
struct Channels {
    /// What is sent.
    out: mpsc::Sender<Message>,
    /// What comes: channel and bytes.
    inbox: mpsc::Receiver<(u8, Vec<u8>)>,
    writer: tokio::task::JoinHandle<()>,
}

impl Channels {
    fn open(socket: WebSocket) -> Self {
        let (mut sink, mut source) = socket.split();
        let (out, mut outbox) = mpsc::channel::<Message>(WAITING);
        let (sender, inbox) = mpsc::channel(WAITING);
        let writer = tokio::spawn(async move {
            while let Some(message) = outbox.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            // what was sent has to leave before the connection goes
            let _ = sink.close().await;
        });
        tokio::spawn(async move {
            while let Some(Ok(message)) = source.next().await {
                let bytes = match message {
                    Message::Binary(bytes) => bytes.to_vec(),
                    Message::Text(text) => text.as_bytes().to_vec(),
                    Message::Ping(_) | Message::Pong(_) => continue,
                    Message::Close(_) => return,
                };
                if let Some((channel, rest)) = bytes.split_first()
                    && sender.send((*channel, rest.to_vec())).await.is_err()
                {
                    // the session is over: go on until the other side closes as well
                    continue;
                }
            }
        });
        Self { out, inbox, writer }
    }

    /// Says that no more comes, and waits until all has been sent.
    async fn close(self) {
        let frame = CloseFrame { code: 1000, reason: "".into() };
        // the other side may have gone first
        let _ = self.out.send(Message::Close(Some(frame))).await;
        drop(self.out);
        let _ = self.writer.await;
    }
}

/// A message on a channel.
fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut all = Vec::with_capacity(bytes.len() + 1);
    all.push(channel);
    all.extend_from_slice(bytes);
    Message::Binary(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_name_what_is_asked() {
        let asked = Asked::parse("command=sh&command=-c&command=echo+a%20%26%C3%A4&input=1&output=1&tty=true&stderr=0")
            .expect("read");
        assert_eq!(asked.command, ["sh", "-c", "echo a &ä"]);
        assert_eq!((asked.stdin, asked.stdout, asked.stderr, asked.tty), (true, true, false, true));
        assert_eq!(Asked::parse("ports=80,81&port=82").expect("read").ports, [80, 81, 82]);
        assert_eq!(Asked::parse("port=x"), Err("\"x\" is not a port".into()));
    }
}
