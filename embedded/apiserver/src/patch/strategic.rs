//! Strategic merge patches: merge patches that know by which key the elements of a list are the same.
//!
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>

use serde_json::{Map, Value};

use crate::schema::{Schema, Strategy};

/// Merges the patch into the value.
pub fn merge(value: &mut Value, patch: &Value, schema: &Schema) -> Result<(), String> {
    let Value::Object(patch) = patch else { return Err("a strategic merge patch must be an object".into()) };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(target) = value else { return Ok(()) };
    merge_map(target, patch, schema)
}

fn merge_map(target: &mut Map<String, Value>, patch: &Map<String, Value>, schema: &Schema) -> Result<(), String> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = patch.iter().filter(|(k, _)| *k != "$patch").map(|(k, v)| (k.clone(), v.clone())).collect();
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown patch type: {other}")),
    }
    if let Some(Value::Array(keep)) = patch.get("$retainKeys") {
        target.retain(|k, _| keep.iter().any(|name| name.as_str() == Some(k)));
    }
    for (name, wanted) in patch {
        if name == "$patch" || name == "$retainKeys" || name.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(field) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(list)), Value::Array(gone)) = (target.get_mut(field), wanted) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if wanted.is_null() {
            target.shift_remove(name);
            continue;
        }
        let none = Schema::any();
        let below = schema.field(name).unwrap_or(&none);
        match wanted {
            Value::Object(child) => {
                let current = target.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                if !current.is_object() {
                    *current = Value::Object(Map::new());
                }
                if let Value::Object(current) = current {
                    merge_map(current, child, below)?;
                }
                if child.get("$patch").and_then(Value::as_str) == Some("delete") {
                    target.shift_remove(name);
                }
            }
            Value::Array(items) => {
                let order = patch.get(&format!("$setElementOrder/{name}")).and_then(Value::as_array);
                let merged = match &below.strategy {
                    Some(strategy) => {
                        merge_list(target.get(name).and_then(Value::as_array), items, strategy, below, order)?
                    }
                    None => items.clone(),
                };
                target.insert(name.clone(), Value::Array(merged));
            }
            plain => {
                target.insert(name.clone(), plain.clone());
            }
        }
    }
    // an order without changes
    for (name, order) in patch {
        if let (Some(field), Value::Array(order)) = (name.strip_prefix("$setElementOrder/"), order)
            && !patch.contains_key(field)
            && let Some(strategy) = schema.field(field).and_then(|s| s.strategy.as_ref())
            && let Some(Value::Array(list)) = target.get_mut(field)
        {
            let before = list.clone();
            arrange(list, order, &before, strategy);
        }
    }
    Ok(())
}

fn merge_list(
    current: Option<&Vec<Value>>,
    patch: &[Value],
    strategy: &Strategy,
    schema: &Schema,
    order: Option<&Vec<Value>>,
) -> Result<Vec<Value>, String> {
    let before = current.cloned().unwrap_or_default();
    let mut list = before.clone();
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(String::from);
    if patch
        .iter()
        .any(|item| directive(item).as_deref() == Some("replace") && item.as_object().is_some_and(|o| o.len() == 1))
    {
        return Ok(patch.iter().filter(|item| directive(item).is_none()).cloned().collect());
    }
    let Some(key) = &strategy.key else {
        for item in patch {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
        arrange(&mut list, order.map_or(patch, Vec::as_slice), &before, strategy);
        return Ok(list);
    };
    let none = Schema::any();
    let below = schema.items.as_ref().unwrap_or(&none);
    for item in patch {
        let Value::Object(fields) = item else {
            return Err(format!("an element of a list merged by {key} must be an object"));
        };
        let Some(id) = fields.get(key) else {
            return Err(format!("map: {item} does not contain declared merge key: {key}"));
        };
        let at = list.iter().position(|l| l.get(key) == Some(id));
        match (directive(item).as_deref(), at) {
            (Some("delete"), Some(at)) => {
                list.remove(at);
            }
            (Some("delete"), None) => {}
            (_, Some(at)) => {
                if let Some(Value::Object(target)) = list.get_mut(at) {
                    merge_map(target, fields, below)?;
                }
            }
            (_, None) => {
                let mut target = Map::new();
                merge_map(&mut target, fields, below)?;
                list.push(Value::Object(target));
            }
        }
    }
    arrange(&mut list, order.map_or(patch, Vec::as_slice), &before, strategy);
    Ok(list)
}

/// Puts the elements that the patch names into the order of the patch. One that it does not name comes before the next
/// named one if it was before it all along; otherwise named ones come first, new ones too.
fn arrange(list: &mut Vec<Value>, order: &[Value], before: &[Value], strategy: &Strategy) {
    let id =
        |item: &Value| strategy.key.as_ref().map_or_else(|| item.clone(), |k| item.get(k).cloned().unwrap_or_default());
    let ids = |items: &[Value]| items.iter().map(id).collect::<Vec<_>>();
    let (wanted, before) = (ids(order), ids(before));
    let place = |item: &Value, ids: &[Value]| ids.iter().position(|known| *known == id(item));
    let (mut named, others): (Vec<Value>, Vec<Value>) = list.drain(..).partition(|item| place(item, &wanted).is_some());
    named.sort_by_key(|item| place(item, &wanted));
    let mut named = named.into_iter().peekable();
    for other in others {
        let at = place(&other, &before);
        while let Some(next) = named.next_if(|next| match (at, place(next, &before)) {
            (Some(at), Some(next)) => next <= at,
            _ => true,
        }) {
            list.push(next);
        }
        list.push(other);
    }
    list.extend(named);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn check(mut value: Value, patch: Value, wanted: Value) {
        let schema = crate::schema::builtin::of::<Pod>("Pod");
        merge(&mut value, &patch, &schema).unwrap();
        assert_eq!(value, wanted);
    }

    #[test]
    fn containers_merge_by_name() {
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "a", "args": ["y"]}, {"name": "c", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1", "args": ["y"]}, {"name": "c", "image": "3"}]}}),
        );
    }

    #[test]
    fn directives() {
        check(
            json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": {"x": null}},
                   "spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}], "containers": [{"name": "c"}, {"name": "a", "$patch": "delete"}]}}),
            json!({"metadata": {"finalizers": ["c", "b"], "labels": {"y": "2"}}, "spec": {"containers": [{"name": "c"}, {"name": "b"}]}}),
        );
        check(
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        );
    }
}
