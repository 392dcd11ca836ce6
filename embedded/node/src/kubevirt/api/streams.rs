//! console, vnc and portforward: WebSockets whose binary messages are the stream's bytes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path as Segments, State};
use axum::response::Response;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::super::qmp;
use super::{Failure, Outcome, Shared};

/// What virtctl asks for.
const PROTOCOL: &str = "plain.kubevirt.io";

/// Who is attached to which console: QEMU serves one at a time, and the last that comes has it.
#[derive(Default)]
pub struct Consoles(Mutex<HashMap<String, CancellationToken>>);

impl Consoles {
    /// Takes a console over from whom has it.
    fn take(&self, uid: &str) -> CancellationToken {
        let mine = CancellationToken::new();
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.retain(|_, token| !token.is_cancelled());
        if let Some(before) = all.insert(uid.to_owned(), mine.clone()) {
            before.cancel();
        }
        mine
    }
}

type Named = Segments<(String, String)>;

/// GET console.
pub async fn console(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    upgrade: WebSocketUpgrade,
) -> Outcome<Response> {
    let running = shared.running(&namespace, &name).await?;
    if running.instance.spec.domain.devices.autoattach_serial_console == Some(false) {
        return Err(Failure::conflict("virtualmachineinstance", &name, "No serial consoles are present."));
    }
    let mine = shared.consoles.take(running.instance.metadata.uid.as_deref().unwrap_or_default());
    let stream = qmp::connect(&running.dir.join("serial.sock")).await?;
    Ok(upgrade.protocols([PROTOCOL]).on_upgrade(async move |socket| {
        tokio::select! {
            () = carry(socket, stream) => mine.cancel(),
            () = mine.cancelled() => {}
        }
    }))
}

/// GET vnc.
pub async fn vnc(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    upgrade: WebSocketUpgrade,
) -> Outcome<Response> {
    let running = shared.running(&namespace, &name).await?;
    if running.instance.spec.domain.devices.autoattach_graphics_device == Some(false) {
        return Err(Failure::conflict("virtualmachineinstance", &name, "No graphics devices are present."));
    }
    let stream = qmp::connect(&running.dir.join("vnc.sock")).await?;
    Ok(upgrade.protocols([PROTOCOL]).on_upgrade(async move |socket| carry(socket, stream).await))
}

/// GET portforward/PORT.
pub async fn port_forward(
    shared: State<Shared>,
    Segments((namespace, name, port)): Segments<(String, String, u16)>,
    upgrade: WebSocketUpgrade,
) -> Outcome<Response> {
    port_forward_as(shared, Segments((namespace, name, port, "tcp".into())), upgrade).await
}

/// GET portforward/PORT/PROTOCOL.
pub async fn port_forward_as(
    State(shared): State<Shared>,
    Segments((namespace, name, port, protocol)): Segments<(String, String, u16, String)>,
    upgrade: WebSocketUpgrade,
) -> Outcome<Response> {
    if protocol != "tcp" {
        return Err(Failure::bad_request(format!(
            "protocol {protocol} is not forwarded by the embedded node; use tcp"
        )));
    }
    let running = shared.running(&namespace, &name).await?;
    let refuse = |why: &str| Failure::conflict("virtualmachineinstance", &name, why);
    let interfaces = running.instance.status.as_ref().map(|status| status.interfaces.clone()).unwrap_or_default();
    let Some((position, address)) = interfaces
        .iter()
        .enumerate()
        .find_map(|(at, one)| Some((at, one.pod_interface_name.as_ref().and(one.ip_address.clone())?)))
    else {
        return Err(refuse("no network interfaces are present on the pod network"));
    };
    open(&running.dir.join("qmp.sock"), position, &address, port).await?;
    let stream = tokio::net::TcpStream::connect((address.as_str(), port)).await?;
    Ok(upgrade.protocols([PROTOCOL]).on_upgrade(async move |socket| carry(socket, stream).await))
}

/// Makes QEMU lead a port of the pod's address into the guest, unless it does.
async fn open(socket: &Path, position: usize, address: &str, port: u16) -> std::io::Result<()> {
    let line = format!("hostfwd_add net{position} tcp:{address}:{port}-:{port}");
    let answer = qmp::command(socket, "human-monitor-command", json!({"command-line": line})).await?;
    // one that is forwarded already cannot be set up again
    tracing::debug!(%answer, port, "a port was asked for");
    Ok(())
}

/// Carries bytes both ways until one side ends.
async fn carry(mut socket: WebSocket, stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(Box::pin(stream));
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            got = read.read(&mut buffer) => match got {
                Ok(length) if length > 0 => {
                    let part = bytes::Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                    if socket.send(Message::Binary(part)).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => break,
            },
            message = socket.recv() => {
                let part = match message {
                    Some(Ok(Message::Binary(part))) => part,
                    Some(Ok(Message::Text(text))) => text.into(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                if write.write_all(&part).await.is_err() {
                    break;
                }
            }
        }
    }
    // who has gone away needs no goodbye
    let _ = socket.send(Message::Close(None)).await;
}
