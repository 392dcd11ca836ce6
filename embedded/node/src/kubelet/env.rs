//! The environment and the arguments of a container.
//!
//! Values come from the pod, from ConfigMaps and Secrets, and from the pod's own fields;
//! `$(NAME)` in values, `command` and `args` refers to what was set before, `$$` is a `$`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};
use thiserror::Error;

/// Why an environment cannot be made yet; the container waits with this message.
#[derive(Debug, Error, PartialEq)]
pub enum EnvError {
    /// A ConfigMap or Secret is not there.
    #[error("{kind} \"{name}\" not found")]
    NoSource {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A ConfigMap or Secret lacks a key.
    #[error("couldn't find key {key} in {kind} {name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field that pods do not offer.
    #[error(
        "field {0} of the pod cannot be used here; use one of metadata.name, metadata.namespace, metadata.uid, metadata.labels['…'], metadata.annotations['…'], spec.nodeName, spec.serviceAccountName, status.podIP, status.hostIP"
    )]
    UnknownField(String),
}

/// ConfigMap and Secret data, by name.
#[derive(Debug, Default)]
pub struct Sources {
    /// Data of ConfigMaps.
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Data of Secrets.
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// Names of the ConfigMaps and Secrets that a container's environment asks for.
pub fn needed(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|source| source.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|source| source.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
    (config_maps, secrets)
}

/// Makes the environment of a container, in the order in which it was declared, after the variables of `services`.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts,
    services: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut result = Vars(services);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, data) = if let Some(source) = &from.config_map_ref {
            ("configmap", &source.name, source.optional, sources.config_maps.get(&source.name))
        } else if let Some(source) = &from.secret_ref {
            ("secret", &source.name, source.optional, sources.secrets.get(&source.name))
        } else {
            continue;
        };
        match data {
            Some(data) => {
                for (key, value) in data {
                    result.set(format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
                }
            }
            None if optional == Some(true) => {}
            None => return Err(EnvError::NoSource { kind, name: name.clone() }),
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            None => Some(result.expand(var.value.as_deref().unwrap_or_default())),
            Some(source) => {
                if let Some(key) = &source.config_map_key_ref {
                    keyed(("configmap", "ConfigMap"), &key.name, &key.key, key.optional, &sources.config_maps)?
                } else if let Some(key) = &source.secret_key_ref {
                    keyed(("secret", "Secret"), &key.name, &key.key, key.optional, &sources.secrets)?
                } else if let Some(field) = &source.field_ref {
                    Some(pod_field(pod, &field.field_path, facts)?)
                } else if let Some(field) = &source.resource_field_ref {
                    Some(resource_field(container, &field.resource, facts))
                } else {
                    None
                }
            }
        };
        if let Some(value) = value {
            result.set(var.name.clone(), value);
        }
    }
    Ok(result.0)
}

/// What the node knows and the pod object may not yet say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The pod's address.
    pub pod_ip: String,
    /// The node's address.
    pub host_ip: String,
    /// The node's name.
    pub node_name: String,
    /// CPUs of the node, for containers without limit.
    pub cpus: u64,
    /// Memory of the node in bytes, for containers without limit.
    pub memory: u64,
}

/// Reads a field of the downward API.
pub fn pod_field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, EnvError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let map = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_else(|| "default".into())
        }
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        _ => match subscript(path) {
            Some(("metadata.labels", key)) => map(&meta.labels, key),
            Some(("metadata.annotations", key)) => map(&meta.annotations, key),
            _ => return Err(EnvError::UnknownField(path.to_owned())),
        },
    })
}

/// Reads a limit or request of a container, in whole units as the downward API gives them.
pub fn resource_field(container: &Container, resource: &str, facts: &Facts) -> String {
    let resources = container.resources.as_ref();
    let (list, name) = match resource.split_once('.') {
        Some(("requests", name)) => (resources.and_then(|all| all.requests.as_ref()), name),
        Some((_, name)) => (resources.and_then(|all| all.limits.as_ref()), name),
        None => (None, resource),
    };
    let set = list.and_then(|list| list.get(name)).and_then(|value| crate::quantity::parse(&value.0));
    match (name, set) {
        (_, Some(value)) => value.ceil().to_string(),
        ("cpu", None) => facts.cpus.to_string(),
        ("memory", None) => facts.memory.to_string(),
        _ => "0".into(),
    }
}

/// Replaces `$(NAME)` by values; an unknown name stays as it is, `$$` gives `$`.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            result.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|open| open.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => result.push_str(&rest[at..at + name.len() + 3]),
            }
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

struct Vars(Vec<(String, String)>);

impl Vars {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn expand(&self, text: &str) -> String {
        expand(text, |name| self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }
}

fn keyed(
    (kind, title): (&'static str, &'static str),
    name: &str,
    key: &str,
    optional: Option<bool>,
    all: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
) -> Result<Option<String>, EnvError> {
    match all.get(name).map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(EnvError::NoKey { kind: title, name: name.into(), key: key.into() }),
        None => Err(EnvError::NoSource { kind, name: name.into() }),
    }
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (field, rest) = path.split_once('[')?;
    Some((field, rest.strip_suffix(']')?.trim_matches(['\'', '"'])))
}

fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_expand_once() {
        let lookup = |name: &str| (name == "A").then(|| "1$(B)".to_owned());
        for (text, expected) in [
            ("$(A)", "1$(B)"),
            ("x$(A)y$(A)", "x1$(B)y1$(B)"),
            ("$(UNKNOWN) stays", "$(UNKNOWN) stays"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    fn example() -> (Pod, Container, Sources, Facts) {
        let container: Container = serde_json::from_value(json!({
            "name": "c",
            "envFrom": [
                {"prefix": "C_", "configMapRef": {"name": "config"}},
                {"secretRef": {"name": "absent", "optional": true}},
            ],
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "URL", "value": "http://$(IP):8080/$(C_path)"},
                {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "login", "key": "none", "optional": true}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}},
                {"name": "TOKEN", "value": "[$(TOKEN)]"},
            ],
            "resources": {"requests": {"memory": "64Mi"}},
        }))
        .expect("a container");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"tier": "back"}},
        }))
        .expect("a pod");
        let mut sources = Sources::default();
        sources.config_maps.insert("config".into(), [("path".into(), b"x".to_vec())].into());
        sources.secrets.insert("login".into(), [("token".into(), b"s3".to_vec())].into());
        let facts = Facts { pod_ip: "127.64.0.1".into(), cpus: 2, ..Facts::default() };
        (pod, container, sources, facts)
    }

    #[test]
    fn values_come_from_all_sources() {
        let (pod, container, sources, facts) = example();
        let env = environment(&pod, &container, &sources, &facts, Vec::new()).expect("an environment");
        let text: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            text,
            [
                "C_path=x",
                "IP=127.64.0.1",
                "URL=http://127.64.0.1:8080/x",
                "TIER=back",
                "TOKEN=[s3]",
                "CPU=2",
                "MEM=67108864",
            ]
        );
        assert_eq!(
            needed(&container),
            (["config".to_owned()].into(), ["absent".to_owned(), "login".to_owned()].into())
        );
    }

    #[test]
    fn missing_sources_are_named() {
        let (pod, container, mut sources, facts) = example();
        sources.secrets.clear();
        let error = environment(&pod, &container, &sources, &facts, Vec::new()).expect_err("no secret");
        assert_eq!(error.to_string(), "secret \"login\" not found");
        sources.secrets.insert("login".into(), BTreeMap::new());
        let error = environment(&pod, &container, &sources, &facts, Vec::new()).expect_err("no key");
        assert_eq!(error.to_string(), "couldn't find key token in Secret login");
    }
}
