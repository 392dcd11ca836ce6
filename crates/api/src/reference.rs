//! References to things of a source: VMs, networks, datastores, hosts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::unset;

/// Names something of a source by id or name. Empty fields are unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Ref {
    /// The id that the source gave it, e.g. vSphere's managed object id.
    #[serde(default, skip_serializing_if = "unset")]
    pub id: String,
    /// The name; for vSphere it may be a path.
    #[serde(default, skip_serializing_if = "unset")]
    pub name: String,
    /// The namespace, for an OpenShift source only.
    #[serde(default, skip_serializing_if = "unset")]
    pub namespace: String,
    /// What kind of thing it is, where the name alone does not say.
    #[serde(rename = "type", default, skip_serializing_if = "unset")]
    pub type_: String,
}

impl Ref {
    /// Returns a reference by id.
    pub fn by_id(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Returns a reference by name.
    pub fn by_name(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Whether it names nothing.
    pub fn not_set(&self) -> bool {
        self.id.is_empty() && self.name.is_empty() && self.type_.is_empty()
    }

    /// Whether both name the same: by id, or by name when `self` has no id.
    pub fn matches(&self, other: &Self) -> bool {
        if self.id.is_empty() { !self.name.is_empty() && self.name == other.name } else { self.id == other.id }
    }
}

/// The text that stands for a VM in the items of conditions.
impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.type_.is_empty() {
            write!(f, "({})", self.type_)?;
        }
        write!(f, " id:{} name:'{}' ", self.id, self.name)
    }
}

/// Finds the entry that a reference means: by id, else by name among the entries without an id.
pub fn find_by_ref<'a, T>(entries: &'a [T], wanted: &Ref, reference: impl Fn(&T) -> &Ref) -> Option<&'a T> {
    entries
        .iter()
        .find(|entry| !reference(entry).id.is_empty() && reference(entry).id == wanted.id)
        .or_else(|| entries.iter().find(|entry| reference(entry).id.is_empty() && reference(entry).matches(wanted)))
}
