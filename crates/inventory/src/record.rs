//! One thing in a provider's inventory.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Json, Native, Resource, SelfLink, Shown, Sink};

/// What a collector hands in; the store adds the revision.
#[derive(Clone)]
pub struct Draft {
    /// The id, unique in its collection.
    pub id: String,
    /// The name.
    pub name: String,
    /// The path by which users tell equal names apart; may be empty.
    pub path: String,
    /// The thing itself.
    pub resource: Arc<dyn Resource>,
}

impl Draft {
    /// Returns a draft of a thing.
    pub fn new(id: &str, name: &str, path: &str, native: impl Native) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), path: path.to_owned(), resource: Arc::new(native) }
    }
}

impl Default for Draft {
    fn default() -> Self {
        Self::new("", "", "", Json::default())
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What validation found about a record; everything is 0 and empty before the first time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The revision that the rules have seen, `revisionValidated`.
    pub revision: u64,
    /// The version of the rules, `policyVersion`.
    pub policy_version: i64,
    /// The concerns, each `{id,label,category,assessment}`; equal lists are shared.
    pub concerns: Arc<[Value]>,
}

/// A stored thing. Immutable: a change makes a new one.
#[derive(Clone)]
pub struct Record {
    /// The id, unique in its collection.
    pub id: Arc<str>,
    /// The name.
    pub name: Arc<str>,
    /// The path by which users tell equal names apart; may be empty.
    pub path: Arc<str>,
    /// Raised with each change, beginning with 1. Validation is no change.
    pub revision: u64,
    /// What validation found; of an older revision until the present one is validated.
    pub verdict: Verdict,
    resource: Arc<dyn Resource>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

impl Record {
    /// Returns a record with a revision.
    pub fn new(draft: Draft, revision: u64) -> Self {
        let Draft { id, name, path, resource } = draft;
        Self { id: id.into(), name: name.into(), path: path.into(), revision, verdict: Verdict::default(), resource }
    }

    /// Returns the next revision: what did not change stays shared.
    pub(crate) fn next(&self, draft: Draft) -> Self {
        let kept = |old: &Arc<str>, new: String| if **old == *new { old.clone() } else { new.into() };
        Self {
            id: self.id.clone(),
            name: kept(&self.name, draft.name),
            path: kept(&self.path, draft.path),
            revision: self.revision + 1,
            verdict: self.verdict.clone(),
            resource: draft.resource,
        }
    }

    /// Returns the same record with what validation found.
    pub fn with_verdict(&self, verdict: Verdict) -> Self {
        Self { verdict, ..self.clone() }
    }

    /// Returns the thing as the provider keeps it, when it is of this type.
    pub fn native<T: Native>(&self) -> Option<&T> {
        (&*self.resource as &dyn Any).downcast_ref()
    }

    /// Returns the thing, whatever its type.
    pub fn resource(&self) -> &Arc<dyn Resource> {
        &self.resource
    }

    /// Returns some keys of the full resource, whatever its type; links are not among them.
    pub fn pick(&self, keys: &[&str]) -> Map<String, Value> {
        let mut map = Map::new();
        let self_link = SelfLink { provider_type: "", uid: "", kind: "", id: &self.id };
        let shown = Shown {
            id: &self.id,
            name: &self.name,
            path: &self.path,
            revision: self.revision,
            self_link,
            verdict: &self.verdict,
        };
        self.resource.show(&shown, &mut Sink::pick(keys, &mut map));
        map
    }

    /// Returns whether the rules of a version have seen this revision.
    pub fn is_validated(&self, policy_version: i64) -> bool {
        self.verdict.revision == self.revision && self.verdict.policy_version == policy_version
    }

    /// Returns whether a draft says nothing new.
    pub(crate) fn is_current(&self, draft: &Draft) -> bool {
        *self.name == *draft.name && *self.path == *draft.path && self.resource.same(&*draft.resource)
    }
}
