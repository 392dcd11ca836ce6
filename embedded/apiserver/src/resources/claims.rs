//! Claims, volumes and storage classes.

use serde_json::{Value, json};

use super::Rules;
use crate::error::Cause;
use crate::meta;
use crate::request::Context;
use crate::server::Server;

pub(crate) const CLAIMS: Rules = Rules {
    prepare_create: Some(claim_create),
    prepare_update: None,
    validate: Some(claim_validate),
    validate_update: Some(claim_update),
};
pub(crate) const VOLUMES: Rules = Rules {
    prepare_create: Some(volume_create),
    prepare_update: None,
    validate: Some(volume_validate),
    validate_update: None,
};
pub(crate) const CLASSES: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: None, validate_update: Some(class_update) };

const DEFAULT_CLASS: &str = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";
const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn claim_create(server: &Server, _: &Context, value: &mut Value) {
    let no_class = value.pointer("/spec/storageClassName").is_none();
    if no_class {
        // the newest class that is marked as default, as the admission plug-in picks it
        let classes = server.store.list("storage.k8s.io/storageclasses", None).0;
        let mut marked: Vec<Value> =
            classes.iter().map(|c| c.value()).filter(|c| meta::text(c, DEFAULT_CLASS) == "true").collect();
        marked.sort_by(|a, b| {
            meta::text(b, "/metadata/creationTimestamp").cmp(meta::text(a, "/metadata/creationTimestamp"))
        });
        if let Some(class) = marked.first() {
            meta::object_mut(value, "spec").insert("storageClassName".into(), meta::name(class).into());
        }
    }
    let mut finalizers = meta::finalizers(value);
    finalizers.retain(|f| f != "kubernetes.io/pvc-protection");
    meta::set_finalizers(value, finalizers);
    value["status"] = json!({"phase": "Pending"});
}

fn volume_create(_: &Server, _: &Context, value: &mut Value) {
    value["status"] = json!({"phase": "Pending"});
}

/// Whether the text is an amount such as `10Gi`.
fn is_quantity(value: &Value) -> bool {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return false,
    };
    let digits = text.trim_start_matches(['+', '-']);
    let number: String = digits.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let suffix = &digits[number.len()..];
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|e| e.parse::<i32>().is_ok());
    let known = matches!(
        suffix,
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
    );
    number.parse::<f64>().is_ok() && (known || exponent)
}

fn check_modes(value: &Value) -> Vec<Cause> {
    let modes = value.pointer("/spec/accessModes").and_then(Value::as_array).cloned().unwrap_or_default();
    if modes.is_empty() {
        return vec![Cause::required("spec.accessModes", "at least 1 access mode is required")];
    }
    let allowed: Vec<String> = MODES.iter().map(|m| (*m).to_string()).collect();
    modes
        .iter()
        .filter(|m| !m.as_str().is_some_and(|m| MODES.contains(&m)))
        .map(|m| Cause::unsupported("spec.accessModes", m, &allowed))
        .collect()
}

/// What an amount has to look like.
pub const QUANTITY_RULE: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

fn claim_validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = check_modes(value);
    match value.pointer("/spec/resources/requests/storage") {
        None => causes.push(Cause::required("spec.resources[storage]", "")),
        Some(amount) if !is_quantity(amount) => {
            causes.push(Cause::invalid("spec.resources.requests.storage", amount, QUANTITY_RULE))
        }
        Some(_) => {}
    }
    let mode = meta::text(value, "/spec/volumeMode");
    if !matches!(mode, "" | "Filesystem" | "Block") {
        causes.push(Cause::unsupported("spec.volumeMode", &mode.into(), &["Block".into(), "Filesystem".into()]));
    }
    causes
}

fn volume_validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = check_modes(value);
    match value.pointer("/spec/capacity/storage") {
        None => causes.push(Cause::required("spec.capacity", "")),
        Some(amount) if !is_quantity(amount) => {
            causes.push(Cause::invalid("spec.capacity.storage", amount, QUANTITY_RULE))
        }
        Some(_) => {}
    }
    causes
}

fn claim_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let fixed = |claim: &Value, like: &Value| {
        let mut spec = claim.get("spec").cloned().unwrap_or_default();
        let Value::Object(map) = &mut spec else { return spec };
        map.shift_remove("resources");
        map.shift_remove("volumeAttributesClassName");
        // the binder sets these once
        for field in ["volumeName", "storageClassName"] {
            if meta::text(like, &format!("/spec/{field}")).is_empty() {
                map.shift_remove(field);
            }
        }
        spec
    };
    if fixed(old, old) == fixed(value, old) {
        return Vec::new();
    }
    vec![Cause::forbidden(
        "spec",
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
    )]
}

fn class_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"] {
        if old.get(field) != value.get(field) {
            causes.push(Cause::forbidden(field, "updates to this field are forbidden"));
        }
    }
    causes
}
