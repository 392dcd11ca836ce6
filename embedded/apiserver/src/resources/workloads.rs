//! Deployments and their siblings: templates and selectors.

use serde_json::{Value, json};

use super::{Rules, pods};
use crate::error::Cause;
use crate::meta;
use crate::request::Context;
use crate::selector::label_selector_matches;
use crate::server::Server;

pub(crate) const RULES: Rules = Rules {
    prepare_create: Some(create),
    prepare_update: Some(update),
    validate: Some(validate),
    validate_update: Some(validate_update),
};

fn create(_: &Server, _: &Context, value: &mut Value) {
    complete(value);
    value["status"] = json!({});
}

fn update(_: &Server, _: &Value, value: &mut Value) {
    complete(value);
}

fn complete(value: &mut Value) {
    pods::complete_spec(value.pointer_mut("/spec/template/spec"));
    // typed clients send an empty strategy
    if let Some(Value::Object(strategy)) = value.pointer_mut("/spec/strategy") {
        let kind = strategy.entry("type".to_string()).or_insert_with(|| "RollingUpdate".into());
        if kind == "RollingUpdate" {
            let rolling = strategy.entry("rollingUpdate".to_string()).or_insert_with(|| json!({}));
            for field in ["maxUnavailable", "maxSurge"] {
                if let Value::Object(rolling) = rolling {
                    rolling.entry(field.to_string()).or_insert_with(|| "25%".into());
                }
            }
        }
    }
}

fn validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let selector = value.pointer("/spec/selector").cloned().unwrap_or_default();
    if selector.as_object().is_some_and(|s| {
        s.values()
            .all(|v| v.as_object().is_none_or(serde_json::Map::is_empty) && v.as_array().is_none_or(Vec::is_empty))
    }) {
        causes.push(Cause::invalid("spec.selector", &selector, "empty selector is invalid for deployment"));
    }
    if let Some(count) = value.pointer("/spec/replicas").filter(|n| n.as_i64().is_some_and(|n| n < 0)) {
        causes.push(Cause::invalid("spec.replicas", count, "must be greater than or equal to 0"));
    }
    let policy = meta::text(value, "/spec/template/spec/restartPolicy");
    if matches!(policy, "OnFailure" | "Never") {
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause::unsupported(field, &policy.into(), &["Always".into()]));
    }
    let labels = value.pointer("/spec/template/metadata/labels");
    if !selector.is_null() && !label_selector_matches(&selector, labels) {
        // the text shows the map as Go does
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let mut shown: Vec<String> = labels.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        shown.sort();
        let shown = shown.join(", ");
        causes.push(Cause {
            reason: "FieldValueInvalid",
            message: format!(
                "Invalid value: map[string]string{{{shown}}}: `selector` does not match template `labels`"
            ),
            field: "spec.template.metadata.labels".into(),
        });
    }
    if let Some(template) = value.pointer("/spec/template/spec") {
        causes.extend(pods::validate_spec(template, "spec.template.spec"));
    }
    causes
}

/// Of a stateful set's spec only these change.
const STATEFUL: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn validate_update(context: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    if context.resource.plural == "statefulsets" {
        let rest = |v: &Value| {
            let mut spec = v.get("spec").cloned().unwrap_or_default();
            if let Value::Object(map) = &mut spec {
                map.retain(|field, _| !STATEFUL.contains(&field.as_str()));
            }
            spec
        };
        if rest(old) != rest(value) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            return vec![Cause::forbidden("spec", why)];
        }
    }
    let (before, after) = (old.pointer("/spec/selector"), value.pointer("/spec/selector"));
    if before == after {
        Vec::new()
    } else {
        vec![Cause::invalid("spec.selector", after.unwrap_or(&Value::Null), "field is immutable")]
    }
}
