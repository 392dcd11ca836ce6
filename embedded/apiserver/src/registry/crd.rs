//! Custom resource definitions: what they declare, whether they are right, what their status says.

mod schemas;
mod validate;

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{Access, Column, Resource, Scale, Shape};
use crate::meta;
use crate::schema::Schema;

pub use validate::validate;

/// Finalizer that keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

fn versions(crd: &Value) -> impl Iterator<Item = &Value> {
    crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten()
}

/// Fills in the names that follow from the others.
pub fn default_names(crd: &mut Value) {
    let kind = meta::text(crd, "/spec/names/kind").to_string();
    if let Some(names) = crd.pointer_mut("/spec/names").and_then(Value::as_object_mut) {
        names.entry("singular".to_string()).or_insert_with(|| kind.to_lowercase().into());
        names.entry("listKind".to_string()).or_insert_with(|| format!("{kind}List").into());
    }
}

/// Why the names of the definition cannot be accepted: reason and message; other definitions of the group have them.
pub fn conflict(crd: &Value, others: &[Value]) -> Option<(&'static str, String)> {
    let accepted = |field: &str| -> Vec<String> {
        let of = |o: &Value| match o.pointer(&format!("/status/acceptedNames/{field}")) {
            Some(Value::Array(list)) => list.iter().filter_map(|v| v.as_str().map(String::from)).collect(),
            Some(Value::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        };
        others.iter().flat_map(of).collect()
    };
    let resources: Vec<String> = ["plural", "singular", "shortNames"].into_iter().flat_map(accepted).collect();
    let kinds: Vec<String> = ["kind", "listKind"].into_iter().flat_map(accepted).collect();
    let wanted = |field: &str| meta::text(crd, &format!("/spec/names/{field}")).to_string();
    let short = strings(crd.pointer("/spec/names/shortNames"));
    let found = [
        ("PluralConflict", vec![wanted("plural")], &resources),
        ("SingularConflict", vec![wanted("singular")], &resources),
        ("ShortNamesConflict", short, &resources),
        ("KindConflict", vec![wanted("kind")], &kinds),
        ("ListKindConflict", vec![wanted("listKind")], &kinds),
    ];
    found.into_iter().find_map(|(reason, names, taken)| {
        let name = names.into_iter().find(|n| taken.contains(n))?;
        Some((reason, format!("{name:?} is already in use")))
    })
}

/// Whether the objects of the definition are served.
fn is_established(crd: &Value) -> bool {
    let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|c| meta::text(c, "/type") == "Established");
    // a definition without the condition comes from a store of before
    found.is_none_or(|c| meta::text(c, "/status") == "True")
}

/// Marks a definition that is deleted: its objects go first.
pub fn terminate(crd: &mut Value) {
    let mut finalizers = meta::finalizers(crd);
    if !finalizers.iter().any(|f| f == CLEANUP) {
        finalizers.push(CLEANUP.into());
        meta::set_finalizers(crd, finalizers);
    }
    let condition = json!({
        "type": "Terminating", "status": "True", "lastTransitionTime": meta::now(), "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    });
    if let Some(conditions) = crd.pointer_mut("/status/conditions").and_then(Value::as_array_mut)
        && !conditions.iter().any(|c| meta::text(c, "/type") == "Terminating")
    {
        conditions.push(condition);
    }
}

/// Sets the status of a definition; `taken` tells why its names are not accepted.
pub fn set_status(crd: &mut Value, old: Option<&Value>, taken: Option<(&'static str, String)>, now: &str) {
    let mut names = crd.pointer("/spec/names").cloned().unwrap_or(json!({}));
    if taken.is_some() {
        // what was accepted before stays so
        names =
            old.and_then(|o| o.pointer("/status/acceptedNames")).cloned().unwrap_or(json!({"plural": "", "kind": ""}));
    }
    let storage = versions(crd)
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .and_then(|v| v.get("name"))
        .cloned();
    let mut stored = strings(old.and_then(|o| o.pointer("/status/storedVersions")));
    if let Some(Value::String(storage)) = storage
        && !stored.contains(&storage)
    {
        stored.push(storage);
    }
    let before = |kind: &str| {
        let conditions = old.and_then(|o| o.pointer("/status/conditions")).and_then(Value::as_array);
        conditions.into_iter().flatten().find(|c| meta::text(c, "/type") == kind)
    };
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let same = before(kind).filter(|c| meta::text(c, "/status") == status);
        let since = same.and_then(|c| c.get("lastTransitionTime")).cloned().unwrap_or_else(|| now.into());
        json!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message})
    };
    let accepted = "the initial names have been accepted";
    // once established a definition stays so
    let established = before("Established").is_some_and(|c| meta::text(c, "/status") == "True");
    let mut conditions = match &taken {
        None => vec![
            condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            condition("Established", "True", "InitialNamesAccepted", accepted),
        ],
        Some((reason, message)) => vec![
            condition("NamesAccepted", "False", reason, message),
            match established {
                true => condition("Established", "True", "InitialNamesAccepted", accepted),
                false => condition("Established", "False", "NotAccepted", "not all names are accepted"),
            },
        ],
    };
    conditions.extend(before("Terminating").cloned());
    if let Some(map) = crd.as_object_mut() {
        map.insert(
            "status".into(),
            json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored}),
        );
    }
}

/// The served resources that the definition declares.
pub fn resources(crd: &Value) -> Result<Vec<Resource>, String> {
    if !is_established(crd) {
        return Ok(Vec::new());
    }
    let text = |pointer: &str| meta::text(crd, pointer).to_string();
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    let storage = versions(crd)
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .map(|v| meta::text(v, "/name"))
        .unwrap_or_default();
    let stored_schema = versions(crd)
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .and_then(|v| v.pointer("/schema/openAPIV3Schema"))
        .map(Schema::root)
        .transpose()?;
    let mut resources = Vec::new();
    for version in versions(crd).filter(|v| v.get("served").and_then(Value::as_bool) == Some(true)) {
        let published = version
            .pointer("/schema/openAPIV3Schema")
            .cloned()
            .unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        let schema = Schema::root(&published)?;
        let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).into_iter().flatten();
        let column = |c: &Value| Column {
            name: meta::text(c, "/name").into(),
            kind: meta::text(c, "/type").into(),
            format: meta::text(c, "/format").into(),
            description: meta::text(c, "/description").into(),
            priority: c.get("priority").and_then(Value::as_i64).unwrap_or(0),
            path: meta::text(c, "/jsonPath").into(),
        };
        let scale = version.pointer("/subresources/scale").map(|s| Scale {
            spec: meta::text(s, "/specReplicasPath").into(),
            status: meta::text(s, "/statusReplicasPath").into(),
            selector: s.get("labelSelectorPath").and_then(Value::as_str).map(String::from),
        });
        let selectable = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
        resources.push(Resource {
            group: group.clone(),
            version: meta::text(version, "/name").into(),
            plural: plural.clone(),
            singular: text("/spec/names/singular"),
            kind: text("/spec/names/kind"),
            list_kind: text("/spec/names/listKind"),
            short_names: strings(crd.pointer("/spec/names/shortNames")),
            categories: strings(crd.pointer("/spec/names/categories")),
            namespaced: meta::text(crd, "/spec/scope") == "Namespaced",
            access: Access::Stored,
            status: version.pointer("/subresources/status").is_some(),
            scale,
            generation: true,
            subresources: &[],
            storage: format!("{group}/{plural}").into(),
            storage_version: format!("{group}/{storage}"),
            custom: true,
            columns: columns.map(column).collect(),
            selectable: selectable.map(|f| meta::text(f, "/jsonPath").to_string()).collect(),
            published,
            since: 0,
            stored_schema: stored_schema.clone(),
            conversion: None,
            shape: Shape::Custom(schema),
            schema: OnceLock::new(),
        });
    }
    Ok(resources)
}
