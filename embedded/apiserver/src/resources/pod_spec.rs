//! What is wrong with the parts of a pod's spec: volumes, mounts, environment, ports, resources.

use std::collections::HashSet;

use serde_json::Value;

use super::{metadata, quantity};
use crate::error::Cause;
use crate::meta;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// Names are labels and occur once; a volume has one source.
pub fn volumes(spec: &Value, at: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut seen = HashSet::new();
    for (index, volume) in list(spec, "volumes").enumerate() {
        let path = format!("{at}.volumes[{index}]");
        let name = meta::text(volume, "/name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !metadata::is_label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), LABEL_RULE));
        } else if !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
        }
        let sources = volume.as_object().into_iter().flatten().filter(|(key, v)| *key != "name" && !v.is_null());
        // an empty directory is named first, so another source beside it is the one too many
        let mut sources: Vec<&String> = sources.map(|(key, _)| key).collect();
        sources.sort_by_key(|key| *key != "emptyDir");
        for extra in sources.iter().skip(1) {
            causes.push(Cause::forbidden(format!("{path}.{extra}"), "may not specify more than 1 volume type"));
        }
    }
    causes
}

/// A container's mounts, environment, ports and resources; `volumes` are the names of the pod's volumes.
pub fn container(container: &Value, volumes: &[String], path: &str) -> Vec<Cause> {
    let mut causes = mounts(container, volumes, path);
    for (index, variable) in list(container, "env").enumerate() {
        if meta::text(variable, "/name").is_empty() && variable.get("name").is_some() {
            causes.push(Cause::required(format!("{path}.env[{index}].name"), ""));
        }
    }
    causes.extend(ports(container, path));
    causes.extend(resources(container, path));
    causes
}

fn mounts(container: &Value, volumes: &[String], path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (field, target) in [("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")] {
        let mut seen = HashSet::new();
        for (index, mount) in list(container, field).enumerate() {
            let at = format!("{path}.{field}[{index}]");
            let volume = meta::text(mount, "/name");
            if !volumes.iter().any(|v| v == volume) {
                causes.push(Cause {
                    reason: "FieldValueNotFound",
                    message: format!("Not found: \"{volume}\""),
                    field: format!("{at}.name"),
                });
            }
            let place = meta::text(mount, &format!("/{target}"));
            if place.is_empty() && mount.get(target).is_some() {
                causes.push(Cause::required(format!("{at}.{target}"), ""));
            } else if !place.is_empty() && !seen.insert(place) {
                causes.push(Cause::invalid(format!("{at}.{target}"), &place.into(), "must be unique"));
            }
        }
    }
    causes
}

fn ports(container: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut seen = HashSet::new();
    for (index, port) in list(container, "ports").enumerate() {
        let at = format!("{path}.ports[{index}]");
        if let Some(number) =
            port.get("containerPort").filter(|p| !p.as_i64().is_some_and(|p| (1..=65535).contains(&p)))
        {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{at}.containerPort"), number, why));
        }
        let name = meta::text(port, "/name");
        if !name.is_empty() && !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{at}.name"), &name.into()));
        }
    }
    causes
}

fn resources(container: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let requests = container.pointer("/resources/requests").and_then(Value::as_object);
    for (name, wanted) in requests.into_iter().flatten() {
        let Some(limit) = container.pointer("/resources/limits").and_then(|l| l.get(name)) else { continue };
        if let (Some(request), Some(most)) = (quantity::amount(wanted), quantity::amount(limit))
            && request > most
        {
            let limit = limit.as_str().map_or_else(|| limit.to_string(), String::from);
            let why = format!("must be less than or equal to {name} limit of {limit}");
            causes.push(Cause::invalid(format!("{path}.resources.requests"), wanted, &why));
        }
    }
    causes
}
