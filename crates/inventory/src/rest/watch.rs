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
//! The client ends by sending Action 4 or by closing. Changes that a client has
//! not read yet are merged per record, so that a slow one loses nothing and holds
//! no more than one change of each record; one that reads nothing for a minute
//! is let go, and has to begin again with a snapshot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::metrics::Metrics;
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
/// How long a client may take for one frame.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a client is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);

static WATCHES: AtomicU64 = AtomicU64::new(0);

pub(super) fn answer(
    upgrade: WebSocketUpgrade,
    entry: Arc<ProviderEntry>,
    kind: &'static KindSpec,
    snapshot: bool,
    metrics: Arc<Metrics>,
) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        metrics.watches.inc();
        // a failed send means that the client is gone, which ends the watch as well
        let _ = serve(socket, &entry, kind, snapshot, &metrics).await;
        metrics.watches.dec();
    })
}

/// Why a watch ends without the client.
struct Gone;

/// Changes that the client has not read yet: at most one of each record, in the order of their first.
#[derive(Default)]
pub(super) struct Pending {
    order: VecDeque<Arc<str>>,
    changes: HashMap<Arc<str>, Event>,
}

impl Pending {
    /// Adds a change; together with one that waits it becomes one.
    pub fn add(&mut self, event: Event) {
        let id = event.change.record().id.clone();
        let Some(waiting) = self.changes.remove(&id) else {
            self.order.push_back(id.clone());
            self.changes.insert(id, event);
            return;
        };
        let validation = waiting.validation && event.validation;
        let merged = match (waiting.change, event.change) {
            (Change::Created(_), Change::Deleted(_)) => None,
            (Change::Created(_), Change::Updated(_, new) | Change::Created(new)) => Some(Change::Created(new)),
            (Change::Updated(old, _), Change::Deleted(_)) => Some(Change::Deleted(old)),
            (Change::Updated(old, _), Change::Updated(_, new) | Change::Created(new)) => {
                Some(Change::Updated(old, new))
            }
            (Change::Deleted(old), Change::Created(new) | Change::Updated(_, new)) => Some(Change::Updated(old, new)),
            (Change::Deleted(old), Change::Deleted(_)) => Some(Change::Deleted(old)),
        };
        match merged {
            Some(change) => {
                self.changes.insert(id, Event { change, validation, ..event });
            }
            None => self.order.retain(|waiting| *waiting != id),
        }
    }

    /// Takes the one that waits longest.
    pub fn take(&mut self) -> Option<Event> {
        self.order.pop_front().and_then(|id| self.changes.remove(&id))
    }
}

/// One client's watch.
struct Watch<'a> {
    socket: WebSocket,
    events: Receiver<Event>,
    pending: Pending,
    /// Whether changes were lost.
    overrun: bool,
    view: View<'a>,
    metrics: &'a Metrics,
}

async fn serve(
    socket: WebSocket,
    entry: &ProviderEntry,
    kind: &'static KindSpec,
    snapshot: bool,
    metrics: &Metrics,
) -> Result<(), Gone> {
    let id = WATCHES.fetch_add(1, Ordering::Relaxed) + 1;
    let view = entry.store().view(kind.name).ok_or(Gone)?;
    let (records, events) = entry.store().watch(kind.name);
    let mut watch = Watch { socket, events, pending: Pending::default(), overrun: false, view, metrics };
    let ended = watch.run(id, &records, snapshot).await?;
    if let Ended::Overrun = ended {
        watch.send(frame(view, id, ERROR, None, None, false)).await?;
    }
    watch.send(frame(view, id, END, None, None, false)).await?;
    watch.socket.send(Message::Close(None)).await.map_err(|_| Gone)
}

enum Ended {
    /// The client wants no more.
    Asked,
    /// The provider is gone from the inventory.
    Closed,
    /// Changes came faster than they could be taken over.
    Overrun,
}

impl Watch<'_> {
    async fn run(&mut self, id: u64, records: &[Arc<Record>], snapshot: bool) -> Result<Ended, Gone> {
        let view = self.view;
        let plain = |action| frame(view, id, action, None, None, false);
        self.send(plain(STARTED)).await?;
        for record in records.iter().filter(|_| snapshot) {
            self.send(frame(view, id, CREATED, Some(record), None, false)).await?;
        }
        self.send(plain(PARITY)).await?;
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        let mut sent = 0_u32;
        loop {
            if self.overrun {
                return Ok(Ended::Overrun);
            }
            if let Some(event) = self.pending.take() {
                self.send(change_frame(view, &event)).await?;
                sent = sent.wrapping_add(1);
                // a client that ends in the midst of many changes is heard as well
                if sent % 64 != 0 {
                    continue;
                }
            }
            tokio::select! {
                biased;
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Text(text))) if is_end(text.as_str()) => return Ok(Ended::Asked),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    Some(Ok(_)) => {}
                },
                () = std::future::ready(()), if !self.pending.order.is_empty() => {}
                event = self.events.recv() => match event {
                    Ok(event) => self.note(event),
                    Err(RecvError::Lagged(_)) => return Ok(Ended::Overrun),
                    Err(RecvError::Closed) => return Ok(Ended::Closed),
                },
                _ = ping.tick() => self.send(Message::Ping(axum::body::Bytes::new())).await?,
            }
        }
    }

    fn note(&mut self, event: Event) {
        if event.kind == self.view.kind.name {
            self.pending.add(event);
        }
    }

    /// Sends a frame; takes over changes meanwhile, so that a slow client holds up nobody.
    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.metrics.frames.inc();
        let Self { socket, events, pending, overrun, view, .. } = self;
        let mut events_open = !*overrun;
        let sending = tokio::time::timeout(PATIENCE, socket.send(message));
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return sent.map_err(|_| Gone)?.map_err(|_| Gone),
                event = events.recv(), if events_open => match event {
                    Ok(event) if event.kind == view.kind.name => pending.add(event),
                    Ok(_) => {}
                    Err(error) => {
                        *overrun |= matches!(error, RecvError::Lagged(_));
                        events_open = false;
                    }
                },
            }
        }
    }
}

fn is_end(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|f| f["Action"].as_u64() == Some(u64::from(END)))
}

fn change_frame(view: View<'_>, event: &Event) -> Message {
    let (serial, label) = (event.serial, event.validation);
    match &event.change {
        Change::Created(record) => frame(view, serial, CREATED, Some(record), None, label),
        Change::Updated(old, new) => frame(view, serial, UPDATED, Some(old), Some(new), label),
        Change::Deleted(record) => frame(view, serial, DELETED, Some(record), None, label),
    }
}

fn frame(
    view: View<'_>,
    id: u64,
    action: u8,
    resource: Option<&Arc<Record>>,
    updated: Option<&Arc<Record>>,
    validation: bool,
) -> Message {
    let labels = if validation { format!("[\"{VALIDATION_LABEL}\"]") } else { "null".to_owned() };
    let mut text = format!("{{\"ID\":{id},\"Labels\":{labels},\"Action\":{action},\"Resource\":").into_bytes();
    let mut append = |record: Option<&Arc<Record>>, end: &[u8]| {
        match record {
            Some(record) => view.append(record, i64::MAX, &mut text),
            None => text.extend_from_slice(b"null"),
        }
        text.extend_from_slice(end);
    };
    append(resource, b",\"Updated\":");
    append(updated, b"}");
    // JSON of serde is UTF-8
    Message::Text(String::from_utf8(text).unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draft;

    fn record(id: &str, name: &str) -> Arc<Record> {
        Arc::new(Record::new(Draft { id: id.into(), name: name.into(), ..Draft::default() }, 1))
    }

    #[test]
    fn changes_that_wait_become_one() {
        let (a, b, c) = (record("1", "a"), record("1", "b"), record("1", "c"));
        let (x, y) = (record("2", "x"), record("2", "y"));
        let mut pending = Pending::default();
        let mut told = |changes: Vec<(Change, bool)>| {
            for (serial, (change, validation)) in (1..).zip(changes) {
                pending.add(Event { serial, kind: "vms", change, validation });
            }
            let mut lines = Vec::new();
            while let Some(event) = pending.take() {
                let label = if event.validation { " validated" } else { "" };
                lines.push(match event.change {
                    Change::Created(r) => format!("created {}{label}", r.name),
                    Change::Updated(old, new) => format!("updated {} {}{label}", old.name, new.name),
                    Change::Deleted(r) => format!("deleted {}{label}", r.name),
                });
            }
            lines
        };
        let created = |r: &Arc<Record>| (Change::Created(r.clone()), false);
        let updated = |o: &Arc<Record>, n: &Arc<Record>| (Change::Updated(o.clone(), n.clone()), false);
        let deleted = |r: &Arc<Record>| (Change::Deleted(r.clone()), false);
        assert_eq!(told(vec![updated(&a, &b), created(&x), updated(&b, &c)]), ["updated a c", "created x"]);
        assert_eq!(told(vec![created(&a), updated(&a, &b)]), ["created b"]);
        assert_eq!(told(vec![created(&a), deleted(&a), updated(&x, &y)]), ["updated x y"]);
        assert_eq!(told(vec![deleted(&a), created(&b)]), ["updated a b"]);
        assert_eq!(told(vec![updated(&a, &b), deleted(&b)]), ["deleted a"]);
        let judged = |o: &Arc<Record>, n: &Arc<Record>| (Change::Updated(o.clone(), n.clone()), true);
        assert_eq!(told(vec![judged(&a, &b), judged(&b, &c)]), ["updated a c validated"]);
        assert_eq!(told(vec![judged(&a, &b), updated(&b, &c)]), ["updated a c"]);
    }
}
