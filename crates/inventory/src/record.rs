//! One thing in a provider's inventory.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::KindSpec;

/// What a collector hands in; the store adds the revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The id, unique in its collection.
    pub id: String,
    /// The name.
    pub name: String,
    /// The path by which users tell equal names apart; may be empty.
    pub path: String,
    /// The full resource as the REST service shows it.
    pub json: Value,
    /// What the provider itself needs of it; shown nowhere.
    pub native: Value,
}

/// A stored thing. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct Record {
    /// The id, unique in its collection.
    pub id: String,
    /// The name.
    pub name: String,
    /// The path by which users tell equal names apart; may be empty.
    pub path: String,
    /// Raised with each change, beginning with 1. Validation is no change.
    pub revision: u64,
    /// The full resource as the REST service shows it.
    pub json: Value,
    /// What the provider itself needs of it; shown nowhere.
    pub native: Value,
    texts: [OnceLock<Arc<str>>; 3],
}

/// The keys that validation writes.
pub(crate) const VALIDATION_KEYS: [&str; 3] = ["revisionValidated", "policyVersion", "concerns"];

impl Record {
    /// Returns a record with a revision.
    pub fn new(draft: Draft, revision: u64) -> Self {
        let Draft { id, name, path, mut json, native } = draft;
        if let Some(shown) = json.get_mut("revision") {
            *shown = revision.into();
        }
        Self { id, name, path, revision, json, native, texts: Default::default() }
    }

    /// Returns the same record with what validation found.
    pub(crate) fn validated(&self, policy_version: i64, concerns: Vec<Value>) -> Self {
        let mut json = self.json.clone();
        if let Some(object) = json.as_object_mut() {
            let values = [self.revision.into(), policy_version.into(), Value::Array(concerns)];
            for (key, value) in VALIDATION_KEYS.into_iter().zip(values) {
                object.insert(key.to_owned(), value);
            }
        }
        Self {
            id: self.id.clone(),
            name: self.name.clone(),
            path: self.path.clone(),
            revision: self.revision,
            json,
            native: self.native.clone(),
            texts: Default::default(),
        }
    }

    /// Returns whether the rules of a version have seen this revision.
    pub fn is_validated(&self, policy_version: i64) -> bool {
        self.json["revisionValidated"].as_u64() == Some(self.revision)
            && self.json["policyVersion"].as_i64() == Some(policy_version)
    }

    /// Returns whether a draft says nothing new.
    pub(crate) fn is_current(&self, draft: &Draft) -> bool {
        let ignored = |key: &str| key == "revision" || VALIDATION_KEYS.contains(&key);
        let same_json = match (self.json.as_object(), draft.json.as_object()) {
            (Some(old), Some(new)) => {
                new.iter().all(|(k, v)| ignored(k) || old.get(k) == Some(v))
                    && old.keys().all(|k| ignored(k) || new.contains_key(k))
            }
            _ => self.json == draft.json,
        };
        same_json && self.name == draft.name && self.path == draft.path && self.native == draft.native
    }

    /// Returns the JSON text of a detail level; made once and shared.
    pub fn text(&self, kind: &KindSpec, detail: i64) -> Arc<str> {
        let level = detail.clamp(0, 2);
        let text = || Arc::from(kind.render(&self.json, level).to_string());
        match self.texts.get(usize::try_from(level).unwrap_or_default()) {
            Some(slot) => slot.get_or_init(text).clone(),
            None => text(),
        }
    }
}
