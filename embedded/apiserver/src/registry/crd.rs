//! Custom resource definitions: what they declare, whether they are right, what their status says.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{Access, Column, Registry, Resource, Scale, Shape};
use crate::error::Cause;
use crate::meta;
use crate::schema::Schema;

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

/// Sets the status of a definition that is served from now on.
pub fn set_status(crd: &mut Value, old: Option<&Value>, now: &str) {
    let names = crd.pointer("/spec/names").cloned().unwrap_or(json!({}));
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
    let since = |kind: &str| {
        let conditions = old.and_then(|o| o.pointer("/status/conditions")).and_then(Value::as_array);
        let found = conditions.into_iter().flatten().find(|c| c.get("type").and_then(Value::as_str) == Some(kind));
        found.and_then(|c| c.get("lastTransitionTime")).cloned().unwrap_or_else(|| now.into())
    };
    let conditions = json!([
        {"type": "NamesAccepted", "status": "True", "lastTransitionTime": since("NamesAccepted"), "reason": "NoConflicts", "message": "no conflicts found"},
        {"type": "Established", "status": "True", "lastTransitionTime": since("Established"), "reason": "InitialNamesAccepted",
         "message": "the initial names have been accepted"},
    ]);
    if let Some(map) = crd.as_object_mut() {
        map.insert(
            "status".into(),
            json!({"acceptedNames": names, "conditions": conditions, "storedVersions": stored}),
        );
    }
}

/// What is wrong with the definition.
pub fn validate(crd: &Value, registry: &Registry) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (group, plural) = (meta::text(crd, "/spec/group"), meta::text(crd, "/spec/names/plural"));
    if meta::name(crd) != format!("{plural}.{group}") {
        causes.push(Cause::invalid(
            "metadata.name",
            &meta::name(crd).into(),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
    }
    let scope = meta::text(crd, "/spec/scope");
    if scope != "Namespaced" && scope != "Cluster" {
        causes.push(Cause::unsupported("spec.scope", &scope.into(), &["Cluster".into(), "Namespaced".into()]));
    }
    if versions(crd).filter(|v| v.get("storage").and_then(Value::as_bool) == Some(true)).count() != 1 {
        let shown = crd.pointer("/spec/versions").cloned().unwrap_or_default();
        causes.push(Cause::invalid("spec.versions", &shown, "must have exactly one version marked as storage version"));
    }
    for (index, version) in versions(crd).enumerate() {
        let at = format!("spec.versions[{index}].schema.openAPIV3Schema");
        match version.pointer("/schema/openAPIV3Schema") {
            None => causes.push(Cause::required(at, "schemas are required")),
            Some(schema) => {
                if let Err(why) = Schema::root(schema) {
                    causes.push(Cause::invalid(at, &Value::Null, &why));
                }
            }
        }
    }
    if registry.all().iter().any(|r| !r.custom && r.group == group) {
        causes.push(Cause::invalid("spec.group", &group.into(), "is a group of built-in resources"));
    }
    causes
}

/// The served resources that the definition declares.
pub fn resources(crd: &Value) -> Result<Vec<Resource>, String> {
    let text = |pointer: &str| meta::text(crd, pointer).to_string();
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    let storage = versions(crd)
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .map(|v| meta::text(v, "/name"))
        .unwrap_or_default();
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
            shape: Shape::Custom(schema),
            schema: OnceLock::new(),
        });
    }
    Ok(resources)
}
