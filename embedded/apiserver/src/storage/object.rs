//! What the store keeps of an object: its JSON as served, and the few metadata fields that indices need.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// Where an object is: resource (`group/plural`), namespace (empty for cluster scope), name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `group/plural`, `/pods` for the core group.
    pub resource: Arc<str>,
    /// Namespace, empty for cluster-scoped resources.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// Makes a key.
    pub fn new(resource: &Arc<str>, namespace: &str, name: &str) -> Self {
        Self { resource: resource.clone(), namespace: namespace.into(), name: name.into() }
    }
}

/// One stored version of an object. Immutable; decoded on demand, because most reads only copy bytes.
#[derive(Debug)]
pub struct Object {
    /// Where it is.
    pub key: Key,
    /// Revision that made this version.
    pub revision: u64,
    /// JSON in the storage version.
    pub json: Bytes,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: Box<[(String, String)]>,
    /// UIDs in `metadata.ownerReferences`.
    pub owners: Box<[String]>,
    /// Whether a deletion timestamp is set.
    pub deleting: bool,
}

impl Object {
    /// Encodes `value`, whose `metadata.resourceVersion` is set to `revision`.
    pub fn encode(key: Key, revision: u64, mut value: Value) -> Self {
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.insert("resourceVersion".into(), revision.to_string().into());
        }
        // boxed: what the string had reserved beyond its end would be kept for the version's whole life
        let json = Bytes::from(value.to_string().into_boxed_str().into_boxed_bytes());
        Self::index(key, revision, json, &value)
    }

    /// Decodes a row of the journal.
    pub fn decode(key: Key, revision: u64, json: Vec<u8>) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_slice(&json)?;
        Ok(Self::index(key, revision, Bytes::from(json), &value))
    }

    fn index(key: Key, revision: u64, json: Bytes, value: &Value) -> Self {
        let meta = value.get("metadata");
        let labels = meta.and_then(|m| m.get("labels")).and_then(Value::as_object);
        let labels = labels
            .map(|l| l.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_string())).collect())
            .unwrap_or_default();
        let owners = meta.and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
        let owners = owners
            .map(|o| o.iter().filter_map(|r| r.get("uid")?.as_str().map(String::from)).collect())
            .unwrap_or_default();
        let uid = meta.and_then(|m| m.get("uid")).and_then(Value::as_str).unwrap_or_default().to_string();
        let deleting = meta.is_some_and(|m| m.get("deletionTimestamp").is_some_and(|t| !t.is_null()));
        Self { key, revision, json, uid, labels, owners, deleting }
    }

    /// The object as JSON value, in the storage version.
    pub fn value(&self) -> Value {
        // the bytes were made by `encode`, or were parsed by `decode`
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// The label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is new.
    Added,
    /// It was replaced.
    Modified,
    /// It is gone.
    Deleted,
}

/// One step of the history.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object after it (for a deletion: the last state, with the deletion's revision).
    pub object: Arc<Object>,
    /// The object before it.
    pub previous: Option<Arc<Object>>,
}
