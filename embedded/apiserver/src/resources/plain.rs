//! Secrets, config maps, namespaces, role bindings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Rules;
use crate::admission::limits;
use crate::error::Cause;
use crate::meta;
use crate::request::Context;
use crate::server::Server;

pub(crate) const SECRETS: Rules = Rules {
    prepare_create: Some(secret_create),
    prepare_update: Some(secret_update),
    validate: Some(secret_validate),
    validate_update: Some(secret_change),
};
pub(crate) const CONFIG_MAPS: Rules = Rules {
    prepare_create: None,
    prepare_update: None,
    validate: Some(map_validate),
    validate_update: Some(immutable_data),
};
pub(crate) const NAMESPACES: Rules = Rules {
    prepare_create: Some(namespace_create),
    prepare_update: Some(namespace_update),
    validate: None,
    validate_update: None,
};
pub(crate) const BUDGETS: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(budget_validate), validate_update: None };
pub(crate) const BINDINGS: Rules = Rules {
    prepare_create: Some(binding_create),
    prepare_update: None,
    validate: None,
    validate_update: Some(binding_change),
};

pub(crate) const LIMIT_RANGES: Rules = Rules {
    prepare_create: Some(|_, _, value| limits::complete(value)),
    prepare_update: Some(|_, _, value| limits::complete(value)),
    validate: None,
    validate_update: None,
};

const KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
/// Most bytes that the data of a config map or secret may have.
const DATA_LIMIT: usize = 1 << 20;

/// What is wrong with the keys below `field`.
fn check_keys(value: &Value, field: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    for key in value.get(field).and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
        let mut wrong = |why: &str| causes.push(Cause::invalid(format!("{field}[{key}]"), &key.clone().into(), why));
        if key.len() > 253 {
            wrong("must be no more than 253 characters");
        }
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            wrong(KEY_RULE);
        } else if matches!(key.as_str(), "." | "..") {
            wrong(&format!("must not be '{key}'"));
        } else if key.starts_with("..") {
            wrong("must not start with '..'");
        }
    }
    causes
}

fn too_long(field: &str) -> Cause {
    let message = format!("Too long: may not be more than {DATA_LIMIT} bytes");
    Cause { reason: "FieldValueTooLong", message, field: field.into() }
}

/// Bytes in the values below `field`.
fn size(value: &Value, field: &str) -> usize {
    let values = value.get(field).and_then(Value::as_object).into_iter().flatten();
    values.map(|(_, v)| v.as_str().map_or(0, str::len)).sum()
}

fn map_validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = check_keys(value, "data");
    causes.extend(check_keys(value, "binaryData"));
    for (key, _) in value.get("data").and_then(Value::as_object).into_iter().flatten() {
        if value.get("binaryData").is_some_and(|b| b.get(key).is_some()) {
            let why = "duplicate of key present in binaryData";
            causes.push(Cause::invalid(format!("data[{key}]"), &key.clone().into(), why));
        }
    }
    if size(value, "data") + size(value, "binaryData") / 4 * 3 > DATA_LIMIT {
        causes.push(too_long(""));
    }
    causes
}

/// Keys that a secret of a published type has to have.
fn secret_validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = check_keys(value, "data");
    let wanted: &[&str] = match meta::text(value, "/type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/basic-auth" => {
            let given = |key: &str| value.get("data").is_some_and(|d| d.get(key).is_some());
            // one of the two is enough
            if given("username") || given("password") { &[] } else { &["username", "password"] }
        }
        _ => &[],
    };
    for key in wanted {
        match value.get("data").and_then(|d| d.get(*key)) {
            None => causes.push(Cause::required(format!("data[{key}]"), "")),
            Some(text) if key.starts_with(".docker") && !is_json(text) => causes.push(Cause {
                reason: "FieldValueInvalid",
                message: "Invalid value: \"<secret contents redacted>\": not JSON".into(),
                field: format!("data[{key}]"),
            }),
            Some(_) => {}
        }
    }
    if size(value, "data") / 4 * 3 > DATA_LIMIT {
        causes.push(too_long("data"));
    }
    causes
}

fn is_json(encoded: &Value) -> bool {
    let bytes = STANDARD.decode(encoded.as_str().unwrap_or_default()).unwrap_or_default();
    serde_json::from_slice::<Value>(&bytes).is_ok()
}

/// `stringData` is written only: it goes into `data`, and wins there.
pub(super) fn encode_strings(value: &mut Value) {
    let Some(Value::Object(plain)) = value.as_object_mut().and_then(|m| m.shift_remove("stringData")) else { return };
    let data = meta::object_mut(value, "data");
    for (key, text) in plain {
        data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
    }
}

fn secret_create(server: &Server, _: &Context, value: &mut Value) {
    encode_strings(value);
    if meta::text(value, "/type") == "kubernetes.io/service-account-token" {
        fill_token(server, value);
    }
}

/// A long-lived token for the service account that the annotation names.
fn fill_token(server: &Server, value: &mut Value) {
    let account = meta::text(value, "/metadata/annotations/kubernetes.io~1service-account.name").to_string();
    let (namespace, name, uid) = (
        meta::namespace(value).to_string(),
        meta::name(value).to_string(),
        meta::text(value, "/metadata/uid").to_string(),
    );
    let Some(found) = server.store.get(&crate::storage::Key::new(&"/serviceaccounts".into(), &namespace, &account))
    else {
        return;
    };
    let claims = crate::auth::token::claims(
        &namespace,
        &account,
        &found.uid,
        &[],
        None,
        jiff::Timestamp::now().as_second(),
        Some(("secret", &name, &uid)),
    );
    let token = server.auth.sign(&claims);
    meta::object_mut(&mut value["metadata"], "annotations")
        .insert("kubernetes.io/service-account.uid".into(), found.uid.clone().into());
    let data = meta::object_mut(value, "data");
    data.insert("token".into(), STANDARD.encode(token).into());
    data.insert("namespace".into(), STANDARD.encode(&namespace).into());
    data.insert("ca.crt".into(), STANDARD.encode(&server.ca_pem).into());
}

fn secret_update(_: &Server, old: &Value, value: &mut Value) {
    encode_strings(value);
    let kind = old.get("type").cloned();
    if let (Some(kind), Value::Object(map)) = (kind, value)
        && map.get("type").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        map.insert("type".into(), kind);
    }
}

fn secret_change(context: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = immutable_data(context, old, value);
    if old.get("type") != value.get("type") {
        causes.push(Cause::invalid("type", value.get("type").unwrap_or(&Value::Null), "field is immutable"));
    }
    causes
}

fn immutable_data(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    if old.get("immutable").and_then(Value::as_bool) != Some(true) {
        return Vec::new();
    }
    let mut causes = Vec::new();
    if value.get("immutable").and_then(Value::as_bool) != Some(true) {
        causes.push(Cause::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for field in ["data", "binaryData"] {
        if old.get(field) != value.get(field) {
            causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
    causes
}

fn label_by_name(value: &mut Value) {
    let name = meta::name(value).to_string();
    meta::object_mut(&mut value["metadata"], "labels").insert("kubernetes.io/metadata.name".into(), name.into());
}

fn namespace_create(_: &Server, _: &Context, value: &mut Value) {
    label_by_name(value);
    value["spec"] = json!({"finalizers": ["kubernetes"]});
    value["status"] = json!({"phase": "Active"});
}

fn namespace_update(_: &Server, old: &Value, value: &mut Value) {
    label_by_name(value);
    // only the finalize subresource changes it
    value["spec"] = old.get("spec").cloned().unwrap_or_else(|| json!({}));
}

fn budget_validate(_: &Server, value: &Value) -> Vec<Cause> {
    let (least, most) = (value.pointer("/spec/minAvailable"), value.pointer("/spec/maxUnavailable"));
    if least.is_none() || most.is_none() {
        return Vec::new();
    }
    let shown = value.get("spec").cloned().unwrap_or_default();
    vec![Cause::invalid("spec", &shown, "minAvailable and maxUnavailable cannot be both set")]
}

fn binding_create(_: &Server, _: &Context, value: &mut Value) {
    if let Some(Value::Object(role)) = value.get_mut("roleRef") {
        role.entry("apiGroup".to_string()).or_insert_with(|| "rbac.authorization.k8s.io".into());
    }
    for subject in value.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        let person = matches!(meta::text(subject, "/kind"), "User" | "Group");
        if let (true, Value::Object(subject)) = (person, subject) {
            subject.entry("apiGroup".to_string()).or_insert_with(|| "rbac.authorization.k8s.io".into());
        }
    }
}

fn binding_change(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    if old.get("roleRef") == value.get("roleRef") {
        return Vec::new();
    }
    vec![Cause::invalid("roleRef", value.get("roleRef").unwrap_or(&Value::Null), "cannot change roleRef")]
}
