//! Between the version that is asked for and the version that is stored.
//!
//! Custom resources are converted as strategy None does it: only `apiVersion` changes. Of the built-in kinds only
//! events have two forms.

use serde_json::{Map, Value};

use crate::registry::Resource;

/// Stored name and served name of event fields.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Whether stored bytes can be served as they are.
pub fn is_identity(resource: &Resource) -> bool {
    resource.version == resource.storage_version.rsplit('/').next().unwrap_or_default()
        && resource.group == resource.storage.split('/').next().unwrap_or_default()
}

/// From the stored to the served form.
pub fn to_served(value: &mut Value, resource: &Resource) {
    if is_identity(resource) {
        return;
    }
    if resource.is("events.k8s.io", "events") {
        rename(value, |(stored, served)| (stored, served));
    }
    set_version(value, resource.api_version());
}

/// From the served to the stored form.
pub fn to_stored(value: &mut Value, resource: &Resource) {
    if is_identity(resource) {
        return;
    }
    if resource.is("events.k8s.io", "events") {
        rename(value, |(stored, served)| (served, stored));
    }
    set_version(value, resource.storage_version.clone());
}

fn set_version(value: &mut Value, version: String) {
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), version.into());
    }
}

fn rename(value: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Value::Object(map) = value else { return };
    let old = std::mem::take(map);
    let names: Vec<_> = EVENT_FIELDS.iter().map(|pair| direction(*pair)).collect();
    let renamed =
        |name: String| names.iter().find(|(from, _)| *from == name).map_or(name.clone(), |(_, to)| (*to).to_string());
    *map = old.into_iter().map(|(name, value)| (renamed(name), value)).collect::<Map<_, _>>();
}
