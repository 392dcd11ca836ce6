//! Payloads of the inventory's REST API, with upstream's keys.
//!
//! Two families of resources: those of a Kubernetes cluster, and all Provider resources, have [`Resource`] as their
//! base; those of other sources have a base of their own.

pub mod openshift;
pub mod ova;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize};

use crate::wire::unset;

/// A finding of a validation rule about a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Concern {
    /// The rule's id.
    pub id: String,
    /// A title.
    pub label: String,
    /// `Critical`, `Warning` or `Information`.
    pub category: String,
    /// What it means for the migration.
    pub assessment: String,
}

/// A reference within an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryRef {
    /// What it is.
    pub kind: String,
    /// Its id.
    pub id: String,
}

/// The base of resources that are Kubernetes objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resource {
    /// The object's UID.
    pub uid: String,
    /// The object's resource version.
    pub version: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Where the resource is, without a leading slash.
    pub self_link: String,
    /// Its path among others.
    #[serde(skip_serializing_if = "unset")]
    pub path: String,
    /// The UID again, for those who look for an id.
    #[serde(skip_serializing_if = "unset")]
    pub id: String,
}

impl Resource {
    /// Returns the base for an object.
    pub fn of(meta: &ObjectMeta, self_link: impl Into<String>) -> Self {
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            version: meta.resource_version.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            self_link: self_link.into(),
            path: String::new(),
            id: String::new(),
        }
    }
}

/// How much of a resource is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// The base: ids, names and links.
    #[default]
    Base,
    /// What lists show.
    Summary,
    /// All.
    All,
}

impl From<i64> for Detail {
    /// Reads the query parameter `detail`; numbers beyond the scale are its ends.
    fn from(number: i64) -> Self {
        match number {
            ..=0 => Self::Base,
            1 => Self::Summary,
            2.. => Self::All,
        }
    }
}

/// Reads `null` as an empty list, which Go writes for one.
pub(crate) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(reader: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(reader)?.unwrap_or_default())
}
