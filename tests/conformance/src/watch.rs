//! A watch: events as they come, each wait with a deadline.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::case::PATIENCE;

/// One line of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: String,
    /// The object.
    pub object: Value,
}

impl Event {
    /// The object's name.
    pub fn name(&self) -> &str {
        self.at("/metadata/name").as_str().unwrap_or_default()
    }

    /// The object's resource version.
    pub fn version(&self) -> &str {
        self.at("/metadata/resourceVersion").as_str().unwrap_or_default()
    }

    /// The value at a JSON pointer of the object.
    pub fn at(&self, pointer: &str) -> &Value {
        self.object.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// `ADDED a`: type and name.
    pub fn brief(&self) -> String {
        format!("{} {}", self.kind, self.name())
    }
}

/// An open watch.
pub struct Watch {
    request: String,
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// What came so far.
    pub seen: Vec<Event>,
}

impl Watch {
    /// A watch on an open response.
    pub fn new(request: String, response: reqwest::Response) -> Self {
        Self { request, response, buffer: Vec::new(), seen: Vec::new() }
    }

    fn buffered(&mut self) -> Result<Option<Event>> {
        let Some(end) = self.buffer.iter().position(|b| *b == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let mut value: Value = serde_json::from_slice(&line)
            .with_context(|| format!("not an event: {}", String::from_utf8_lossy(&line)))?;
        let kind = value["type"].as_str().unwrap_or_default().to_string();
        Ok(Some(Event { kind, object: value["object"].take() }))
    }

    async fn read(&mut self, deadline: Instant) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.buffered()? {
                self.seen.push(event.clone());
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.response.chunk()).await {
                Err(_) => return self.fail("nothing more came in time"),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(Err(error)) => return self.fail(format_args!("the watch broke off: {error}")),
            }
        }
    }

    /// Fails with `what`, the request and what came so far.
    pub fn fail<T>(&self, what: impl std::fmt::Display) -> Result<T> {
        let seen: Vec<String> = self
            .seen
            .iter()
            .map(|e| format!("      {} {}", e.kind, e.object))
            .map(|l| l.chars().take(600).collect())
            .collect();
        bail!("{what}\n    request: {}\n    events so far:\n{}", self.request, seen.join("\n"))
    }

    /// Fails with `what` unless the condition holds.
    pub fn holds(&self, condition: bool, what: impl std::fmt::Display) -> Result<()> {
        if condition { Ok(()) } else { self.fail(what) }
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<Event> {
        match self.read(Instant::now() + PATIENCE).await? {
            Some(event) => Ok(event),
            None => self.fail("the watch ended, an event was expected"),
        }
    }

    /// The next event that is no bookmark. The config map of every namespace is passed over too: a controller makes it at
    /// an unknown time.
    pub async fn change(&mut self) -> Result<Event> {
        loop {
            let event = self.next().await?;
            if event.kind != "BOOKMARK" && event.name() != "kube-root-ca.crt" {
                return Ok(event);
            }
        }
    }

    /// Reads the next events and expects their types and names: `["ADDED a", "DELETED b"]`; bookmarks are passed over.
    pub async fn expect(&mut self, wanted: &[&str]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for wanted in wanted {
            let event = self.change().await?;
            if event.brief() != *wanted {
                return self.fail(format_args!("{wanted:?} expected, got {:?}", event.brief()));
            }
            events.push(event);
        }
        Ok(events)
    }

    /// Reads events until one fulfils the predicate, and returns it.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Event) -> bool) -> Result<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline).await.with_context(|| format!("waiting for: {what}"))? {
                Some(event) if holds(&event) => return Ok(event),
                Some(_) => {}
                None => return self.fail(format_args!("the watch ended before: {what}")),
            }
        }
    }

    /// Reads to the end of the watch and returns what came since the last call.
    pub async fn end(&mut self) -> Result<Vec<Event>> {
        let from = self.seen.len();
        let deadline = Instant::now() + PATIENCE;
        while self.read(deadline).await.context("waiting for the end of the watch")?.is_some() {}
        Ok(self.seen.get(from..).unwrap_or_default().to_vec())
    }
}
