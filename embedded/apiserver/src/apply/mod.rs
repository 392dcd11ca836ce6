//! Server-side apply and the tracking of field managers.
//!
//! Every writer is noted in `metadata.managedFields` with the fields it wrote. Applying a configuration merges it into
//! the live object, takes out what the same manager applied before and leaves out now, and is refused where another
//! manager owns a field that would change, unless forced. Semantics: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

mod managers;
mod merge;
mod set;

use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::request::Context;
use managers::{Manager, Managers};
use set::FieldSet;

/// Most managers that came by update; older ones are put together.
const MAX_UPDATERS: usize = 10;

/// Fields that nobody manages.
const UNMANAGED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

fn strip(set: &mut FieldSet, context: &Context) {
    for path in UNMANAGED {
        set.remove(path);
    }
    set.members.remove("f:metadata");
    // what this path cannot change belongs to nobody here
    if context.resource.status && context.target.subresource.is_empty() {
        set.remove(&["status"]);
    } else if context.target.subresource == "status" {
        set.members.retain(|step| step == "f:status");
        set.children.retain(|step, _| step == "f:status");
    }
}

/// What an empty object of a built-in kind has already: fields that are always written.
fn skeleton(context: &Context, new: &Value) -> Value {
    let mut empty = json!({"apiVersion": new.get("apiVersion"), "kind": new.get("kind"), "metadata": {}});
    if !context.resource.custom {
        for field in ["spec", "status"] {
            empty[field] = json!({});
        }
        if new.pointer("/spec/containers").is_some() {
            empty["spec"]["containers"] = json!([]);
        }
        if new.pointer("/spec/template").is_some() {
            empty["spec"]["template"] = json!({"metadata": {}, "spec": {"containers": []}});
        }
    }
    empty
}

/// Notes who changed what in an update (create, update, patch).
pub fn track_update(context: &Context, old: Option<&Value>, new: &mut Value) {
    let schema = context.resource.schema();
    let reset = new
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|m| m.is_empty() || m.iter().all(|e| e.as_object().is_some_and(serde_json::Map::is_empty)));
    let mut managers = if reset { Managers::default() } else { old.map(Managers::decode).unwrap_or_default() };
    if reset && old.is_some() {
        managers.encode(new);
        return;
    }
    let empty;
    let before = match old {
        Some(old) => old,
        None => {
            empty = skeleton(context, new);
            &empty
        }
    };
    let difference = merge::compare(before, new, schema);
    let mut mine = difference.added.union(&difference.modified);
    strip(&mut mine, context);
    for manager in &mut managers.list {
        manager.fields = manager.fields.difference_below(&difference.removed);
    }
    if !mine.is_empty() {
        let me = Manager::update(context);
        for manager in managers.list.iter_mut().filter(|m| !m.same(&me)) {
            manager.fields = manager.fields.difference(&mine);
        }
        managers.add(me, &mine);
    }
    managers.cap(MAX_UPDATERS);
    managers.encode(new);
}

/// The live object with the configuration applied, managers included.
pub fn apply(context: &Context, live: Option<&Value>, config: &Value, force: bool) -> ApiResult<Value> {
    let schema = context.resource.schema();
    let nothing = json!({});
    let before = live.unwrap_or(&nothing);
    let mut managers = live.map(Managers::decode).unwrap_or_default();
    if let Some(live) = live
        && managers.list.is_empty()
    {
        // an object from before managers were tracked: its fields belong to whoever made it
        let mut all = set::of_value(live, schema);
        strip(&mut all, context);
        managers.add(Manager::before_first_apply(context), &all);
    }
    let mut mine = set::of_value(config, schema);
    strip(&mut mine, context);
    let me = Manager::apply(context);
    let last = managers.list.iter().find(|m| m.same(&me)).map(|m| m.fields.clone()).unwrap_or_default();
    let config = unmanaged_out(context, config);
    let mut merged = merge::merge(before, &config, schema);
    drop_added_nulls(&mut merged, &config);
    let owned = managers.list.iter().filter(|m| !m.same(&me)).fold(mine.clone(), |all, m| all.union(&m.fields));
    merge::prune(&mut merged, schema, &last, &owned);
    let difference = merge::compare(before, &merged, schema);
    let changed = difference.added.union(&difference.modified);
    let mut conflicts: Vec<(&Manager, FieldSet)> =
        managers.list.iter().filter(|m| !m.same(&me)).map(|m| (m, m.fields.intersection(&changed))).collect();
    conflicts.retain(|(_, fields)| !fields.is_empty());
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for manager in managers.list.iter_mut().filter(|m| !m.same(&me)) {
        manager.fields =
            manager.fields.difference(&manager.fields.intersection(&changed)).difference_below(&difference.removed);
    }
    managers.set(me, mine);
    managers.encode(&mut merged);
    Ok(merged)
}

/// The configuration without what this path does not change.
fn unmanaged_out(context: &Context, config: &Value) -> Value {
    let mut config = if context.target.subresource == "status" {
        merge::only(config, &["apiVersion", "kind", "metadata", "status"])
    } else {
        config.clone()
    };
    if context.resource.status
        && context.target.subresource.is_empty()
        && let Value::Object(map) = &mut config
    {
        map.shift_remove("status");
    }
    let metadata = meta::metadata_mut(&mut config);
    for field in ["creationTimestamp", "selfLink", "generation", "managedFields"] {
        metadata.shift_remove(field);
    }
    config
}

/// A null in the configuration unsets the field.
fn drop_added_nulls(merged: &mut Value, config: &Value) {
    if let (Value::Object(merged), Value::Object(config)) = (merged, config) {
        for (name, item) in config {
            if item.is_null() {
                continue;
            }
            if let Some(child) = merged.get_mut(name) {
                drop_added_nulls(child, item);
            }
        }
    }
}

fn conflict(conflicts: &[(&Manager, FieldSet)]) -> ApiError {
    let mut found: Vec<(String, String)> = Vec::new();
    for (manager, fields) in conflicts {
        found.extend(fields.paths().into_iter().map(|path| (manager.show(), path)));
    }
    let causes = found.iter().map(|(who, path)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path})).collect();
    let message = match found.as_slice() {
        [(who, path)] => format!("Apply failed with 1 conflict: conflict with {who}: {path}"),
        many => {
            let mut managers: Vec<&String> = many.iter().map(|(who, _)| who).collect();
            managers.sort();
            managers.dedup();
            let mut lines = Vec::new();
            for manager in managers {
                lines.push(format!("conflicts with {manager}:"));
                lines.extend(many.iter().filter(|(who, _)| who == manager).map(|(_, path)| format!("- {path}")));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    ApiError::apply_conflict(message, causes)
}

#[cfg(test)]
mod tests;
