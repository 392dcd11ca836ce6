//! Records as JSON: one by one, by detail level, as trees.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Field, KindSpec, ProviderSpec, Record, SelfLink, Shown, Sink, Store};

/// A collection of one provider, as its records are shown.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The provider type's table.
    pub spec: &'static ProviderSpec,
    /// The provider's UID.
    pub uid: &'a str,
    /// The collection.
    pub kind: &'static KindSpec,
}

impl View<'_> {
    fn shown<'r>(&'r self, record: &'r Record) -> Shown<'r> {
        let link =
            SelfLink { provider_type: self.spec.provider_type, uid: self.uid, kind: self.kind.name, id: &record.id };
        Shown {
            id: &record.id,
            name: &record.name,
            path: &record.path,
            revision: record.revision,
            self_link: link,
            verdict: &record.verdict,
        }
    }

    /// Appends a record's JSON text at a detail level: 0 is the base, 1 the summary, more is all.
    pub fn append(&self, record: &Record, detail: i64, out: &mut Vec<u8>) {
        let sink = &mut match self.kind.level(detail) {
            Some(fields) => Sink::level(fields, out),
            None => Sink::text(out),
        };
        record.resource().show(&self.shown(record), sink);
    }

    /// Returns some keys of the full resource.
    pub fn pick(&self, record: &Record, keys: &[&str]) -> Map<String, Value> {
        let mut map = Map::new();
        record.resource().show(&self.shown(record), &mut Sink::pick(keys, &mut map));
        map
    }

    /// Returns a record's JSON at a detail level.
    pub fn value(&self, record: &Record, detail: i64) -> Value {
        let mut text = Vec::with_capacity(4096);
        self.append(record, detail, &mut text);
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

/// A node of a tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is, as `VM` or `Folder`.
    pub kind: &'static str,
    /// Its collection.
    pub collection: &'static str,
    /// Its record.
    pub record: Arc<Record>,
    /// How much of it is shown.
    pub detail: i64,
    /// What is below it; none is shown as `null`.
    pub children: Vec<Node>,
}

impl Node {
    /// Returns a node without children.
    pub fn new(kind: &'static str, collection: &'static str, record: Arc<Record>, detail: i64) -> Self {
        Self { kind, collection, record, detail, children: Vec::new() }
    }

    fn append(&self, store: &Store, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match store.view(self.collection) {
            Some(view) => view.append(&self.record, self.detail, out),
            None => out.extend_from_slice(b"null"),
        }
        append_children(store, &self.children, out);
    }
}

fn append_children(store: &Store, children: &[Node], out: &mut Vec<u8>) {
    if children.is_empty() {
        out.extend_from_slice(b",\"children\":null}");
        return;
    }
    out.extend_from_slice(b",\"children\":[");
    for (at, child) in children.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        child.append(store, out);
    }
    out.extend_from_slice(b"]}");
}

/// Returns a tree's text: the root has no kind and no object.
pub(crate) fn tree_text(store: &Store, children: &[Node]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * 1024);
    out.extend_from_slice(b"{\"kind\":\"\",\"object\":null");
    append_children(store, children, &mut out);
    out
}

/// Returns the keys of a full value at a detail level; for sources that hold JSON.
pub fn level(kind: &KindSpec, full: &Value, detail: i64) -> Value {
    let Some(fields) = kind.level(detail) else { return full.clone() };
    let pair = |field: &Field| match field {
        Field::Of(key) => full.get(key).map(|value| ((*key).to_owned(), value.clone())),
        Field::Null(key) => Some(((*key).to_owned(), Value::Null)),
    };
    Value::Object(fields.iter().filter_map(pair).collect())
}
