//! The metadata of every object: its start, what a change may not touch, what names and labels look like.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::error::Cause;
use crate::meta;
use crate::registry::Resource;

static SUBDOMAIN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok());
static LABEL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok());
static LABEL_1035: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[a-z]([-a-z0-9]*[a-z0-9])?$").ok());
static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$").ok());

fn is(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|r| r.is_match(text))
}

const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// Fields that only the server sets.
const KEPT: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "name",
    "namespace",
    "generateName",
    "resourceVersion",
];

/// Gives a new object its identity.
pub fn start(resource: &Resource, value: &mut Value) {
    let metadata = meta::metadata_mut(value);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "resourceVersion"] {
        metadata.shift_remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), meta::now().into());
    if resource.generation {
        metadata.insert("generation".into(), 1.into());
    }
    drop_empty(metadata);
}

/// Carries over what a change may not touch.
pub fn keep(old: &Value, value: &mut Value) {
    let before = old.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let metadata = meta::metadata_mut(value);
    for field in KEPT {
        match before.get(*field) {
            Some(kept) => metadata.insert((*field).into(), kept.clone()),
            None => metadata.shift_remove(*field),
        };
    }
    metadata.shift_remove("selfLink");
    drop_empty(metadata);
}

fn drop_empty(metadata: &mut serde_json::Map<String, Value>) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match metadata.get(field) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if empty {
            metadata.shift_remove(field);
        }
    }
}

fn check_name(resource: &Resource, name: &str) -> Vec<String> {
    let rule = |fits: bool, longest: usize, text: &str| {
        let mut faults = Vec::new();
        if name.len() > longest {
            faults.push(format!("must be no more than {longest} characters"));
        }
        if !fits {
            faults.push(text.to_string());
        }
        faults
    };
    match (resource.group.as_str(), resource.plural.as_str()) {
        // these follow names from elsewhere, such as system:node:x
        ("rbac.authorization.k8s.io", _) => path_segment(name),
        ("", "namespaces") => rule(is(&LABEL, name), 63, LABEL_RULE),
        ("", "services") => rule(is(&LABEL_1035, name), 63, LABEL_1035_RULE),
        _ => rule(is(&SUBDOMAIN, name), 253, SUBDOMAIN_RULE),
    }
}

fn path_segment(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// What is wrong with a key of labels or annotations.
pub fn qualified(key: &str) -> Option<&'static str> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    if prefix.is_some_and(|p| p.is_empty() || p.len() > 253 || !is(&SUBDOMAIN, p)) {
        return Some(
            "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        );
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters");
    }
    (!is(&WORD, name)).then_some(KEY_RULE)
}

/// What is wrong with a label's value.
pub fn label_value(text: &str) -> Option<&'static str> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    (!text.is_empty() && !is(&WORD, text)).then_some(VALUE_RULE)
}

/// Labels below `path`.
pub fn check_labels(labels: Option<&Value>, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if let Some(why) = qualified(key) {
            causes.push(Cause::invalid(path, &key.clone().into(), why));
        }
        if let Some(why) = label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, value, why));
        }
    }
    causes
}

/// What is wrong with the metadata.
pub fn validate(resource: &Resource, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta::name(value);
    let stem = meta::text(value, "/metadata/generateName");
    if !stem.is_empty() {
        // a stem may end in a dash
        let stem_as_name =
            if stem.len() > 1 && stem.ends_with('-') { format!("{}a", &stem[..stem.len() - 1]) } else { stem.into() };
        for why in check_name(resource, &stem_as_name) {
            causes.push(Cause::invalid("metadata.generateName", &stem.into(), &why));
        }
    }
    for why in check_name(resource, name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), &why));
    }
    causes.extend(check_labels(value.pointer("/metadata/labels"), "metadata.labels"));
    let annotations = value.pointer("/metadata/annotations").and_then(Value::as_object);
    for (key, _) in annotations.into_iter().flatten() {
        if let Some(why) = qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.clone().into(), why));
        }
    }
    let size: usize = annotations.into_iter().flatten().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    if size > 256 << 10 {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: "Too long: may not be more than 262144 bytes".into(),
            field: "metadata.annotations".into(),
        });
    }
    for finalizer in meta::finalizers(value) {
        if let Some(why) = qualified(&finalizer) {
            causes.push(Cause::invalid("metadata.finalizers", &finalizer.clone().into(), why));
        } else if needs_group(resource, &finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid("metadata.finalizers", &finalizer.clone().into(), why));
        }
    }
    let owners = value.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let mut controllers = 0;
    for owner in owners {
        controllers += usize::from(owner.get("controller").and_then(Value::as_bool) == Some(true));
        for field in ["apiVersion", "kind", "name", "uid"] {
            if meta::text(owner, &format!("/{field}")).is_empty() {
                let why = if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                causes.push(Cause::invalid(format!("metadata.ownerReferences.{field}"), &"".into(), why));
            }
        }
    }
    if controllers > 1 {
        causes.push(Cause::invalid(
            "metadata.ownerReferences",
            &Value::Null,
            "Only one reference can have Controller set to true",
        ));
    }
    causes
}

/// Whether a finalizer of one word is none of those that Kubernetes itself uses; only custom resources and the kinds of
/// the extension groups may have such ones.
fn needs_group(resource: &Resource, finalizer: &str) -> bool {
    let lenient =
        resource.custom || matches!(resource.group.as_str(), "apiextensions.k8s.io" | "apiregistration.k8s.io");
    !lenient && !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion")
}

/// What a change wants of the fields that stay as they are; said before [`keep`] puts them back.
pub fn fixed(old: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        let at = |v: &Value| v.pointer(&format!("/metadata/{field}")).cloned().unwrap_or_default();
        let (before, wanted) = (at(old), at(value));
        if !wanted.is_null() && wanted != before {
            causes.push(Cause::invalid(format!("metadata.{field}"), &wanted, "field is immutable"));
        }
    }
    causes
}

/// What a change of the metadata may not do.
pub fn validate_update(old: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if meta::is_deleting(old) {
        let before = meta::finalizers(old);
        let new: Vec<String> = meta::finalizers(value).into_iter().filter(|f| !before.contains(f)).collect();
        if !new.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.iter().map(|f| format!("\"{f}\"")).collect::<Vec<_>>().join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &why));
        }
    }
    causes
}

/// Whether the text is a DNS label, as container and volume names are.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is(&LABEL, text)
}
