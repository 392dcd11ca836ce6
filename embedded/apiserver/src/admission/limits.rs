//! LimitRange: what containers get when they do not say, and what no container or claim may ask.
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use serde_json::{Map, Value};

use super::Operation;
use crate::cel::Quantity;
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::request::Context;
use crate::server::Server;

/// Where the defaults that were set are noted.
const NOTE: &str = "kubernetes.io/limit-ranger";

fn items(server: &Server, namespace: &str, kind: &str) -> Vec<Value> {
    let (ranges, _) = server.store.list("/limitranges", Some(namespace));
    let values = ranges.iter().map(|r| r.value());
    let limits = values.flat_map(|v| v.pointer("/spec/limits").and_then(Value::as_array).cloned().unwrap_or_default());
    limits.filter(|l| meta::text(l, "/type") == kind).collect()
}

fn map<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// Completes a limit: `max` is the default limit, the default limit or `min` the default request.
pub fn complete(range: &mut Value) {
    for limit in range.pointer_mut("/spec/limits").and_then(Value::as_array_mut).into_iter().flatten() {
        if meta::text(limit, "/type") != "Container" {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let given: Vec<(String, Value)> =
                map(limit, &format!("/{from}")).map(|(k, v)| (k.clone(), v.clone())).collect();
            if given.is_empty() {
                continue;
            }
            let target = meta::object_mut(limit, to);
            for (name, value) in given {
                target.entry(name).or_insert(value);
            }
        }
    }
}

/// Gives the containers of a new pod what they do not ask for.
pub fn fill(server: &Server, context: &Context, operation: Operation, pod: &mut Value) {
    let new = operation == Operation::Create && context.target.subresource.is_empty();
    if !new || !context.resource.is("", "pods") {
        return;
    }
    let limits = items(server, &context.target.namespace, "Container");
    if limits.is_empty() {
        return;
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = meta::text(container, "/name").to_string();
            ask_for_limits(container);
            for (from, to, word) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
                let set = fill_one(container, &limits, from, to);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        meta::object_mut(&mut pod["metadata"], "annotations").insert(NOTE.into(), note.into());
    }
}

/// A container that says only how much it may take asks for that much.
fn ask_for_limits(container: &mut Value) {
    let limits: Vec<(String, Value)> =
        map(container, "/resources/limits").map(|(k, v)| (k.clone(), v.clone())).collect();
    for (name, value) in limits {
        meta::object_mut(&mut container["resources"], "requests").entry(name).or_insert(value);
    }
}

fn fill_one(container: &mut Value, limits: &[Value], from: &str, to: &str) -> Vec<String> {
    let wanted: Map<String, Value> =
        limits.iter().flat_map(|l| map(l, &format!("/{from}"))).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut set = Vec::new();
    for (name, value) in wanted {
        let target = meta::object_mut(&mut container["resources"], to);
        if !target.contains_key(&name) {
            target.insert(name.clone(), value);
            set.push(name);
        }
    }
    set.sort();
    set
}

/// Refuses what is outside of the limits.
pub fn check(server: &Server, context: &Context, operation: Operation, object: Option<&Value>) -> ApiResult<()> {
    let Some(object) = object.filter(|_| context.target.subresource.is_empty()) else { return Ok(()) };
    let mut faults = Vec::new();
    if operation == Operation::Create && context.resource.is("", "pods") {
        for limit in items(server, &context.target.namespace, "Container") {
            for list in ["containers", "initContainers"] {
                let containers = object.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
                for container in containers.into_iter().flatten() {
                    let of = |part: &str| container.pointer(&format!("/resources/{part}")).cloned().unwrap_or_default();
                    outside(&limit, "Container", &of("requests"), &of("limits"), &mut faults);
                }
            }
        }
    } else if context.resource.is("", "persistentvolumeclaims") {
        for limit in items(server, &context.target.namespace, "PersistentVolumeClaim") {
            let asked = object.pointer("/spec/resources/requests").cloned().unwrap_or_default();
            outside(&limit, "PersistentVolumeClaim", &asked, &Value::Null, &mut faults);
        }
    }
    let text = match faults.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let (group, plural) = (&context.resource.group, &context.resource.plural);
    Err(ApiError::forbidden(group, plural, meta::name(object), &text))
}

fn outside(limit: &Value, kind: &str, requests: &Value, limits: &Value, faults: &mut Vec<String>) {
    let read = |value: &Value| Quantity::parse(value.as_str().unwrap_or_default());
    let shown = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let claim = kind == "PersistentVolumeClaim";
    for (bound, word) in [("min", "minimum"), ("max", "maximum")] {
        for (name, enforced) in map(limit, &format!("/{bound}")) {
            let begin = format!("{word} {name} usage per {kind} is {}", shown(enforced));
            let beyond = |value: &Value| match (read(value), read(enforced)) {
                (Some(found), Some(edge)) => {
                    if bound == "min" {
                        found < edge
                    } else {
                        found > edge
                    }
                }
                _ => false,
            };
            let (request, most) = (requests.get(name), limits.get(name));
            match (bound, request, most) {
                ("min", None, _) => faults.push(format!("{begin}.  No request is specified")),
                ("max", None, None) | ("max", Some(_), None) if !claim => {
                    faults.push(format!("{begin}.  No limit is specified"));
                }
                ("max", _, Some(most)) if beyond(most) => faults.push(format!("{begin}, but limit is {}", shown(most))),
                (_, Some(request), _) if beyond(request) => {
                    faults.push(format!("{begin}, but request is {}", shown(request)));
                }
                ("min", _, Some(most)) if beyond(most) => faults.push(format!("{begin}, but limit is {}", shown(most))),
                _ => {}
            }
        }
    }
}
