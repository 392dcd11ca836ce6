//! Server-side apply and the tracking of field managers.
//!
//! Every writer is noted in `metadata.managedFields` with the fields it wrote. Applying a configuration merges it into
//! the live object, takes out what the same manager applied before and leaves out now, and is refused where another
//! manager owns a field that would change, unless forced. Semantics: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.
//!
//! ```text
//!  mod       requests: managers by name and path, kubectl's migration, what nobody manages
//!  managers  managedFields on the wire          owners   who owns what after an update, an apply
//!  merge, compare, fields, validate             values and sets by type
//!  types     what a schema says of a value      set, step  paths
//! ```
//! `fuzz` compares `owners` and below with the Go module that kube-apiserver uses.

mod compare;
mod fields;
#[cfg(test)]
mod fuzz;
mod managers;
mod merge;
mod owners;
mod set;
mod step;
mod types;
mod validate;

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::request::Context;
use managers::{Managers, Name};
use owners::{Conflict, Refused};
use set::FieldSet;
use types::Type;

/// Client-side apply's note of what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fields that nobody manages.
static UNMANAGED: LazyLock<FieldSet> = LazyLock::new(|| {
    let mut set = FieldSet::default();
    for field in ["apiVersion", "kind", "metadata"] {
        set.extend(&FieldSet::of_fields(&[field]));
    }
    for field in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.extend(&FieldSet::of_fields(&["metadata", field]));
    }
    set
});

/// Fields that the server gives a new object by itself, after defaults: they are nobody's unless the client gave them.
const ALLOCATED: &[(&str, &str, &[&[&str]])] = &[
    (
        "",
        "pods",
        &[
            &["spec", "serviceAccountName"],
            &["spec", "serviceAccount"],
            &["spec", "tolerations"],
            &["spec", "priority"],
            &["spec", "preemptionPolicy"],
            &["spec", "imagePullSecrets"],
            &["spec", "volumes"],
            &["spec", "containers", "*", "volumeMounts"],
            &["spec", "initContainers", "*", "volumeMounts"],
        ],
    ),
    (
        "",
        "services",
        &[&["spec", "clusterIP"], &["spec", "clusterIPs"], &["spec", "ipFamilies"], &["spec", "ipFamilyPolicy"]],
    ),
    ("", "persistentvolumeclaims", &[&["spec", "storageClassName"], &["metadata", "finalizers"]]),
    ("", "persistentvolumes", &[&["metadata", "finalizers"]]),
    ("", "namespaces", &[&["spec", "finalizers"]]),
    ("batch", "jobs", &[&["spec", "selector"], &["spec", "template", "metadata", "labels"]]),
];

/// What of `ALLOCATED` the new object has and the client did not give.
fn allocated(context: &Context, given: &Value, new: &Value) -> FieldSet {
    let resource = &context.resource;
    let known = ALLOCATED.iter().find(|row| !resource.custom && resource.is(row.0, row.1));
    let Some((_, _, paths)) = known else { return FieldSet::default() };
    // two forms of one object that the schema knows can be compared
    let Ok(difference) = compare::compare(given, new, Type::root(resource.schema())) else {
        return FieldSet::default();
    };
    let mut all = FieldSet::default();
    for path in *paths {
        all.extend(&difference.added.matching(path));
    }
    all
}

/// What this path cannot change belongs to nobody by it: the status by the object's own path, the rest by the status'.
fn ignored(context: &Context) -> FieldSet {
    match context.target.subresource.as_str() {
        "" if context.resource.status => FieldSet::of_fields(&["status"]),
        "status" => FieldSet::of_fields(&["spec"]),
        _ => FieldSet::default(),
    }
}

/// What an empty object of a built-in kind has already: fields that are always written.
fn skeleton(context: &Context, new: &Value) -> Value {
    let mut empty = json!({"apiVersion": new.get("apiVersion"), "kind": new.get("kind"), "metadata": {}});
    if !context.resource.custom {
        let declared = &context.resource.schema().properties;
        for field in ["spec", "status"].into_iter().filter(|field| declared.contains_key(*field)) {
            empty[field] = json!({});
        }
        if new.pointer("/spec/containers").is_some() {
            empty["spec"]["containers"] = json!([]);
        }
        if new.pointer("/spec/template").is_some() {
            empty["spec"]["template"] = json!({"metadata": {}, "spec": {"containers": []}});
        }
        for field in ["strategy", "updateStrategy"] {
            if new.pointer(&format!("/spec/{field}")).is_some() {
                empty["spec"][field] = json!({});
            }
        }
    }
    empty
}

/// The managers that an update starts from: those of the request's object when it brings some, else the live ones.
fn decode_for_update(context: &Context, old: Option<&Value>, new: &Value) -> Managers {
    let live = || old.and_then(|old| Managers::decode(old).ok()).unwrap_or_else(Managers::none);
    if !context.target.subresource.is_empty() {
        return live();
    }
    let given = new.pointer("/metadata/managedFields").and_then(Value::as_array);
    let reset = given.is_some_and(|entries| match entries.as_slice() {
        [] => true,
        [only] => only.as_object().is_some_and(|entry| entry.values().all(Value::is_null)),
        _ => false,
    });
    if reset {
        return Managers::none();
    }
    match Managers::decode(new) {
        Ok(given) if !given.is_empty() => given,
        _ => live(),
    }
}

/// Notes who made a new object; `given` is what the client sent, defaults filled in.
pub fn track_create(context: &Context, given: &Value, new: &mut Value) {
    let before = skeleton(context, new);
    let ignored = ignored(context).union(&allocated(context, given, new));
    note(context, decode_for_update(context, None, new), &before, new, &ignored);
}

/// Notes who changed what in an update or patch.
pub fn track_update(context: &Context, old: &Value, new: &mut Value) {
    let managers = decode_for_update(context, Some(old), new);
    if managers.is_empty() {
        // tracking starts at creation or with an apply; an object without managers stays so
        return managers.encode(new);
    }
    note(context, managers, old, new, &ignored(context));
}

fn note(context: &Context, mut managers: Managers, old: &Value, new: &mut Value, ignored: &FieldSet) {
    let maker = Name::updater(context, &context.manager);
    if let Err(error) = update(&mut managers, context, old, new, &maker, ignored) {
        tracing::warn!(%error, kind = context.resource.kind, name = meta::name(new), "cannot track field managers");
        managers = Managers::none();
    }
    managers.cap();
    managers.encode(new);
}

fn update(
    managers: &mut Managers,
    context: &Context,
    old: &Value,
    new: &Value,
    maker: &Name,
    ignored: &FieldSet,
) -> Result<(), String> {
    let ty = Type::root(context.resource.schema());
    let present = Name::present();
    managers.owners.update(old, new, ty, &present, ignored)?;
    managers.strip(&present, &UNMANAGED);
    managers.take_present(maker);
    Ok(())
}

/// The live object with the configuration applied, managers included; `sent` is the configuration as the client sent
/// it, without the name and namespace of the path.
pub fn apply(context: &Context, live: Option<&Value>, config: &Value, sent: &Value, force: bool) -> ApiResult<Value> {
    let failed = |error: String| ApiError::unknown(format!("failed to decode managed fields: {error}"));
    let managers = live.map(Managers::decode).transpose().map_err(failed)?.unwrap_or_else(Managers::none);
    let kubectl = context.manager == "kubectl";
    let result = match apply_once(context, live, (config, sent), managers.clone(), force) {
        Err(Refused::Conflicts(conflicts)) if kubectl && !force => {
            // what client-side apply set and nobody changed since is kubectl's own
            let allowed = live.and_then(|live| last_applied_fields(context, live)).unwrap_or_default();
            let left: Vec<_> = conflicts.into_iter().filter(|c| !allowed.has_path(&c.path)).collect();
            if left.is_empty() {
                apply_once(context, live, (config, sent), managers, true)
            } else {
                Err(Refused::Conflicts(left))
            }
        }
        result => result,
    };
    let mut merged = result.map_err(|refused| match refused {
        Refused::Conflicts(conflicts) => conflict(&conflicts),
        Refused::Shape(error) => ApiError::unknown(error),
    })?;
    if kubectl && !annotation(&merged).is_empty() {
        let mut applied = sent.clone();
        if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.shift_remove(LAST_APPLIED);
        }
        applied.sort_all_objects();
        merged["metadata"]["annotations"][LAST_APPLIED] = format!("{applied}\n").into();
    }
    Ok(merged)
}

fn apply_once(
    context: &Context,
    live: Option<&Value>,
    (config, sent): (&Value, &Value),
    mut managers: Managers,
    force: bool,
) -> Result<Value, Refused<Name>> {
    let ty = Type::root(context.resource.schema());
    let me = Name::applier(context, &context.manager);
    let shown = || {
        let (resource, namespace, name) = (&context.resource, meta::namespace(sent), meta::name(sent));
        format!("{namespace}/{name}; {}/{}, Kind={}", resource.group, resource.version, resource.kind)
    };
    validate::validate(config, ty, false)
        .map_err(|e| Refused::Shape(format!("failed to create typed patch object ({}): {e}", shown())))?;
    let nothing = json!({});
    let before = live.unwrap_or(&nothing);
    if live.is_some() && managers.is_empty() {
        // an object from before managers were tracked: its fields belong to whoever made it
        let first = Name::updater(context, "before-first-apply");
        update(&mut managers, context, &skeleton(context, before), before, &first, &ignored(context))
            .map_err(|e| Refused::Shape(format!("failed to create manager for existing fields: {e}")))?;
    }
    let merged = managers.owners.apply(before, config, ty, &me, force, &ignored(context))?;
    managers.strip(&me, &UNMANAGED);
    managers.applied(&me, &context.resource.api_version(), merged.is_some());
    let mut merged = merged.unwrap_or_else(|| before.clone());
    managers.encode(&mut merged);
    Ok(merged)
}

fn annotation(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    annotations.and_then(|a| a.get(LAST_APPLIED)).and_then(Value::as_str).unwrap_or_default()
}

/// The fields of the last client-side apply that are still as it set them.
fn last_applied_fields(context: &Context, live: &Value) -> Option<FieldSet> {
    let ty = Type::root(context.resource.schema());
    let last: Value = serde_json::from_str(annotation(live)).ok()?;
    if meta::text(&last, "/apiVersion") != context.resource.api_version() {
        return None;
    }
    validate::validate(&last, ty, false).ok()?;
    let fields = fields::of_value(&last, ty).ok()?;
    let difference = compare::compare(&last, live, ty).ok()?;
    Some(fields.difference(&difference.modified).difference(&difference.added).difference(&difference.removed))
}

fn conflict(conflicts: &[Conflict<Name>]) -> ApiError {
    let mut found: Vec<(String, String)> =
        conflicts.iter().map(|c| (c.owner.to_string(), set::show(&c.path))).collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let cause = |(who, path): &(String, String)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path});
    let causes = found.iter().map(cause).collect();
    let message = match found.as_slice() {
        [(who, path)] => format!("Apply failed with 1 conflict: conflict with {who}: {path}"),
        many => {
            let mut lines = Vec::new();
            let mut last = "";
            for (who, path) in many {
                if who != last {
                    lines.push(format!("conflicts with {who}:"));
                    last = who;
                }
                lines.push(format!("- {path}"));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    ApiError::apply_conflict(message, causes)
}

#[cfg(test)]
mod tests;
