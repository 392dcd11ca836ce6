//! Deployments and their siblings: templates and selectors.

use serde_json::{Value, json};

use super::{Rules, pods};
use crate::error::Cause;
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

fn validate_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let (before, after) = (old.pointer("/spec/selector"), value.pointer("/spec/selector"));
    if before == after {
        Vec::new()
    } else {
        vec![Cause::invalid("spec.selector", after.unwrap_or(&Value::Null), "field is immutable")]
    }
}
