//! Changes of a collection over a WebSocket.
//!
//! Asked for with the header `X-Watch`; its value `snapshot` asks for the present
//! records first, as created. Frames are JSON with upstream's keys:
//! `{"ID","Labels","Action","Resource","Updated"}`; an update carries the old
//! resource in `Resource` and the new one in `Updated`.
//!
//! ```text
//! Started ─► Created* (snapshot) ─► Parity ─► Created | Updated | Deleted … ─► End
//! ```
//!
//! The client ends by sending Action 4 or by closing. A client that reads too
//! slowly gets Error and End, and has to begin again with a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::{Change, Event, KindSpec, ProviderEntry, Record, View};

pub(super) const HEADER: &str = "X-Watch";
pub(super) const SNAPSHOT: &[u8] = b"snapshot";

const STARTED: u8 = 0x00;
const PARITY: u8 = 0x01;
const ERROR: u8 = 0x02;
const END: u8 = 0x04;
const CREATED: u8 = 0x10;
const UPDATED: u8 = 0x20;
const DELETED: u8 = 0x40;

/// The label of changes that only validation made.
const VALIDATION_LABEL: &str = "VM-validated";

static WATCHES: AtomicU64 = AtomicU64::new(0);

pub(super) fn answer(
    upgrade: WebSocketUpgrade,
    entry: Arc<ProviderEntry>,
    kind: &'static KindSpec,
    snapshot: bool,
) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        // a failed send means that the client is gone, which ends the watch as well
        let _ = serve(socket, &entry, kind, snapshot).await;
    })
}

async fn serve(
    mut socket: WebSocket,
    entry: &ProviderEntry,
    kind: &'static KindSpec,
    snapshot: bool,
) -> Result<(), axum::Error> {
    let id = WATCHES.fetch_add(1, Ordering::Relaxed) + 1;
    let Some(view) = entry.store().view(kind.name) else { return Ok(()) };
    let (records, mut events) = entry.store().watch(kind.name);
    send(&mut socket, frame(id, STARTED, Value::Null, Value::Null, None)).await?;
    for record in records.iter().filter(|_| snapshot) {
        send(&mut socket, frame(id, CREATED, view.value(record, i64::MAX), Value::Null, None)).await?;
    }
    send(&mut socket, frame(id, PARITY, Value::Null, Value::Null, None)).await?;
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) if !is_end(text.as_str()) => {}
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => {}
                Some(Ok(Message::Text(_))) => break,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            },
            event = events.recv() => match event {
                Ok(event) if event.kind == kind.name => send(&mut socket, change_frame(view, &event)).await?,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    send(&mut socket, frame(id, ERROR, Value::Null, Value::Null, None)).await?;
                    break;
                }
                Err(RecvError::Closed) => break,
            },
        }
    }
    send(&mut socket, frame(id, END, Value::Null, Value::Null, None)).await?;
    socket.send(Message::Close(None)).await
}

fn is_end(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|f| f["Action"].as_u64() == Some(u64::from(END)))
}

fn change_frame(view: View<'_>, event: &Event) -> Value {
    let label = event.validation.then_some(VALIDATION_LABEL);
    let shown = |record: &Record| view.value(record, i64::MAX);
    match &event.change {
        Change::Created(record) => frame(event.serial, CREATED, shown(record), Value::Null, label),
        Change::Updated(old, new) => frame(event.serial, UPDATED, shown(old), shown(new), label),
        Change::Deleted(record) => frame(event.serial, DELETED, shown(record), Value::Null, label),
    }
}

fn frame(id: u64, action: u8, resource: Value, updated: Value, label: Option<&str>) -> Value {
    let labels = label.map_or(Value::Null, |l| json!([l]));
    json!({"ID": id, "Labels": labels, "Action": action, "Resource": resource, "Updated": updated})
}

async fn send(socket: &mut WebSocket, frame: Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(frame.to_string().into())).await
}
