//! Between the version that is asked for and the version that is stored.
//!
//! Custom resources are converted as strategy None does it, where only `apiVersion` changes, or by their definition's
//! webhook. Handlers learn from the webhook ([`learn`]) what they are going to show, so that showing waits for nobody.
//! Of the built-in kinds only events have two forms.

mod webhook;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::ApiResult;
use crate::registry::Resource;
use crate::schema;
use crate::storage::Object;

pub use webhook::Conversion;

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

/// Whether stored bytes of the version `revision` can be served as they are.
pub fn is_identity(resource: &Resource, revision: u64) -> bool {
    resource.version == resource.storage_version.rsplit('/').next().unwrap_or_default()
        && resource.group == resource.storage.split('/').next().unwrap_or_default()
        // what was stored before the definition changed is read with its new schema
        && revision >= resource.since
}

/// Asks the webhook of the resource for these objects in the served version, if there is one and they are in another.
pub async fn learn(resource: &Resource, objects: &[Arc<Object>]) -> ApiResult<()> {
    let Some(conversion) = &resource.conversion else { return Ok(()) };
    conversion.learn(objects.iter().map(|o| o.value()).collect(), &resource.api_version()).await
}

/// From the stored to the served form.
pub fn to_served(value: &mut Value, resource: &Resource) {
    if resource.is("events.k8s.io", "events") {
        rename(value, |(stored, served)| (stored, served));
    }
    let version = resource.api_version();
    if let Some(shape) = &resource.stored_schema
        && crate::meta::text(value, "/apiVersion") == resource.storage_version
    {
        schema::prune(value, shape);
        schema::apply_defaults(value, shape);
    }
    if crate::meta::text(value, "/apiVersion") != version {
        let revision = crate::meta::text(value, "/metadata/resourceVersion");
        match resource.conversion.as_ref().map(|c| c.known(revision, &version)) {
            Some(Some(known)) => *value = (*known).clone(),
            // not learned, or forgotten again: shown as it is stored
            Some(None) => {
                tracing::warn!(resource = resource.plural, version, "an object was not converted before it was shown");
                return;
            }
            None => set_version(value, version),
        }
    }
}

/// From the served to the stored form.
pub async fn to_stored(value: &mut Value, resource: &Resource) -> ApiResult<()> {
    if resource.is("events.k8s.io", "events") {
        rename(value, |(stored, served)| (served, stored));
    }
    if crate::meta::text(value, "/apiVersion") == resource.storage_version {
        return Ok(());
    }
    match &resource.conversion {
        Some(conversion) => {
            let converted = conversion.convert(vec![value.clone()], &resource.storage_version).await?;
            *value = converted.into_iter().next().unwrap_or_default();
        }
        None => set_version(value, resource.storage_version.clone()),
    }
    Ok(())
}

/// An object of one version of a resource in another.
pub async fn between(mut value: Value, from: &Resource, to: &Resource) -> ApiResult<Value> {
    if from.is("events.k8s.io", "events") {
        rename(&mut value, |(stored, served)| (served, stored));
    } else if to.is("events.k8s.io", "events") {
        rename(&mut value, |(stored, served)| (stored, served));
    }
    let version = to.api_version();
    match &from.conversion {
        Some(conversion) if from.version != to.version => {
            let converted = conversion.convert(vec![value], &version).await?;
            value = converted.into_iter().next().unwrap_or_default();
        }
        _ => set_version(&mut value, version),
    }
    Ok(value)
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
