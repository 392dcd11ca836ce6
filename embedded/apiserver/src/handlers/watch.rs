//! watch: the state, if wanted, then everything that happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

use super::{output, read};
use crate::convert;
use crate::error::{ApiError, ApiResult};
use crate::request::{Context, Form};
use crate::selector::Selector;
use crate::server::Server;
use crate::storage::{Event, EventKind, Object};
use crate::table;

/// How often an idle watch is told the revision.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// Bytes of events that are written at once.
const BATCH: usize = 64 << 10;
/// How long before its end a watch is told the revision once more.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest watch.
const LONGEST: Duration = Duration::from_secs(3600);

struct Watch {
    context: Arc<Context>,
    selector: Selector,
    namespace: Option<String>,
    /// Whether a table's columns have been sent; they come with the first one only.
    headed: AtomicBool,
}

impl Watch {
    fn frame(&self, kind: &str, object: &Object, at: u64) -> Bytes {
        let resource = &self.context.resource;
        let body = match self.context.form {
            Form::Object if at == object.revision => output::served_bytes(resource, object),
            form => {
                let mut value = output::served(resource, object);
                crate::meta::metadata_mut(&mut value).insert("resourceVersion".into(), at.to_string().into());
                match form {
                    Form::Object => Bytes::from(value.to_string()),
                    Form::Metadata => Bytes::from(output::partial(&value).to_string()),
                    Form::Table => {
                        let metadata = json!({"resourceVersion": at.to_string()});
                        Bytes::from(
                            table::of(
                                resource,
                                &[value],
                                self.context.params.text("includeObject"),
                                metadata,
                                !self.headed.swap(true, Ordering::Relaxed),
                            )
                            .to_string(),
                        )
                    }
                }
            }
        };
        let mut out = Vec::with_capacity(body.len() + 40);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        out.extend_from_slice(&body);
        out.extend_from_slice(b"}\n");
        Bytes::from(out)
    }

    fn bookmark(&self, at: u64, initial_end: bool) -> Bytes {
        let resource = &self.context.resource;
        let mut metadata = json!({"resourceVersion": at.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.context.form {
            Form::Object => json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata}),
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table => {
                let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
                let row = json!({"cells": [], "object": object});
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": at.to_string()}, "columnDefinitions": [], "rows": [row]})
            }
        };
        line("BOOKMARK", &object)
    }

    /// The event as this watch sees it: an object that starts or stops to match comes or goes.
    fn show(&self, event: &Event) -> Option<Bytes> {
        let object = &event.object;
        if self.namespace.as_ref().is_some_and(|ns| *ns != object.key.namespace) {
            return None;
        }
        let at = object.revision;
        let now = event.kind != EventKind::Deleted && self.selector.matches(object);
        let before = match &event.previous {
            Some(previous) => self.selector.matches(previous),
            None => event.kind == EventKind::Deleted && self.selector.matches(object),
        };
        match (before, now) {
            (false, true) => Some(self.frame("ADDED", object, at)),
            (true, true) => Some(self.frame("MODIFIED", object, at)),
            (true, false) => {
                let last =
                    if event.kind == EventKind::Deleted { object } else { event.previous.as_ref().unwrap_or(object) };
                Some(self.frame("DELETED", last, at))
            }
            (false, false) => None,
        }
    }
}

/// Has objects converted before they are shown; one that cannot be is shown as it is stored.
async fn learn(watch: &Watch, objects: &[Arc<Object>]) {
    let resource = &watch.context.resource;
    if let Err(error) = convert::learn(resource, objects).await {
        tracing::warn!(%error, resource = resource.plural, "a watch cannot have its objects converted");
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

/// GET with `watch=true`.
pub fn watch(server: Arc<Server>, context: Arc<Context>) -> ApiResult<Response> {
    let params = &context.params;
    read::check_options(params, true)?;
    let selector = read::selector(&context)?;
    let from = read::revision(params.text("resourceVersion"))?;
    let send_initial = match params.text("sendInitialEvents") {
        "" => None,
        _ => Some(params.flag("sendInitialEvents")),
    };
    let bookmarks = params.flag("allowWatchBookmarks");
    let lasts = params
        .number("timeoutSeconds")?
        .and_then(|s| u64::try_from(s).ok())
        .map_or(LONGEST, |s| Duration::from_secs(s).min(LONGEST));
    let current = server.store.revision();
    if from.is_some_and(|f| f > current) {
        return Err(read::too_new(from.unwrap_or(0), current));
    }
    let initial = send_initial.unwrap_or(from.is_none_or(|f| f == 0));
    let storage = context.resource.storage.clone();
    let watch = Watch {
        selector,
        namespace: read::namespace(&context).map(String::from),
        context,
        headed: AtomicBool::new(false),
    };
    let resource = &watch.context.resource;
    let counter = server.metrics.watch_events(&resource.group, &resource.version, &resource.kind);
    let stream = async_stream::stream! {
        let (objects, revision, mut changed) = server.store.list_and_watch(&storage, watch.namespace.as_deref());
        let mut cursor = match from {
            Some(from) if from > 0 && !initial => from,
            _ => revision,
        };
        if initial {
            let mut batch = BytesMut::new();
            learn(&watch, &objects).await;
            for object in objects.iter().filter(|o| watch.selector.matches(o)) {
                counter.fetch_add(1, Ordering::Relaxed);
                batch.extend_from_slice(&watch.frame("ADDED", object, object.revision));
                if batch.len() >= BATCH {
                    yield batch.split().freeze();
                }
            }
            if !batch.is_empty() {
                yield batch.freeze();
            }
            if send_initial == Some(true) && bookmarks {
                yield watch.bookmark(cursor, true);
            }
        }
        drop(objects);
        let deadline = tokio::time::sleep(lasts);
        tokio::pin!(deadline);
        // a last word, so that a client comes back from as near as possible
        let farewell = tokio::time::sleep(lasts.saturating_sub(FAREWELL));
        tokio::pin!(farewell);
        let mut parted = !bookmarks;
        let mut tick = tokio::time::interval(BOOKMARK_EVERY);
        tick.tick().await;
        loop {
            changed.borrow_and_update();
            match server.store.events_after(&storage, cursor) {
                Err(compacted) => {
                    let error = ApiError::expired(format!("too old resource version: {cursor} ({})", compacted.oldest));
                    yield line("ERROR", &error.status());
                    return;
                }
                Ok((events, upto)) => {
                    // one write for all that has happened meanwhile; a reader that is slow holds back no more than this,
                    // and finds the history compacted when it comes back too late
                    let mut batch = BytesMut::new();
                    let mut sent = 0;
                    let mut at = upto;
                    if watch.context.resource.conversion.is_some() {
                        let shown = events.iter().flat_map(|e| [Some(e.object.clone()), e.previous.clone()]);
                        learn(&watch, &shown.flatten().collect::<Vec<_>>()).await;
                    }
                    for event in events {
                        if let Some(frame) = watch.show(&event) {
                            sent += 1;
                            batch.extend_from_slice(&frame);
                        }
                        if batch.len() >= BATCH {
                            at = event.object.revision;
                            break;
                        }
                    }
                    let more = at < upto;
                    cursor = at;
                    if !batch.is_empty() {
                        counter.fetch_add(sent, Ordering::Relaxed);
                        yield batch.freeze();
                    }
                    if more {
                        continue;
                    }
                }
            }
            tokio::select! {
                // a closed channel cannot happen while the store lives
                _ = changed.changed() => {}
                _ = tick.tick() => if bookmarks { yield watch.bookmark(cursor, false) },
                () = &mut farewell, if !parted => {
                    parted = true;
                    yield watch.bookmark(cursor, false);
                }
                () = &mut deadline => return,
                () = server.stop.cancelled() => return,
            }
        }
    };
    let stream = futures::StreamExt::map(stream, Ok::<Bytes, std::convert::Infallible>);
    Ok(output::json_response(StatusCode::OK, Body::from_stream(stream)))
}
