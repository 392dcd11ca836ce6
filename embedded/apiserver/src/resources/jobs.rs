//! Jobs: the selector and labels that tie pods to their job, counts, what may not change.

use serde_json::{Value, json};

use super::{Rules, pods};
use crate::error::Cause;
use crate::meta;
use crate::request::Context;
use crate::server::Server;

pub(crate) const JOBS: Rules = Rules {
    prepare_create: Some(create),
    prepare_update: Some(update),
    validate: Some(validate),
    validate_update: Some(validate_update),
};
pub(crate) const CRON_JOBS: Rules = Rules {
    prepare_create: Some(cron_create),
    prepare_update: None,
    validate: Some(cron_validate),
    validate_update: None,
};

fn create(_: &Server, _: &Context, value: &mut Value) {
    let (name, uid) = (meta::name(value).to_string(), meta::text(value, "/metadata/uid").to_string());
    let Some(spec) = value.get_mut("spec") else { return };
    pods::complete_spec(spec.pointer_mut("/template/spec"));
    let Some(map) = spec.as_object_mut() else { return };
    if map.get("completions").is_none() && map.get("parallelism").is_none() {
        map.insert("completions".into(), 1.into());
    }
    map.entry("parallelism".to_string()).or_insert_with(|| 1.into());
    if map.get("manualSelector").and_then(Value::as_bool) != Some(true) {
        let template = meta::object_mut(spec, "template");
        let metadata = template.entry("metadata".to_string()).or_insert_with(|| json!({}));
        if metadata.is_null() {
            *metadata = json!({});
        }
        let labels = meta::object_mut(metadata, "labels");
        for (key, label) in [
            ("controller-uid", &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            labels.insert(key.into(), label.clone().into());
        }
        let selector = meta::object_mut(spec, "selector");
        let labels = selector.entry("matchLabels".to_string()).or_insert_with(|| json!({}));
        labels["batch.kubernetes.io/controller-uid"] = uid.into();
    }
    value["status"] = json!({});
}

fn cron_create(_: &Server, _: &Context, value: &mut Value) {
    pods::complete_spec(value.pointer_mut("/spec/jobTemplate/spec/template/spec"));
    value["status"] = json!({});
}

fn cron_validate(_: &Server, value: &Value) -> Vec<Cause> {
    let schedule = meta::text(value, "/spec/schedule");
    if schedule.is_empty() {
        return vec![Cause::required("spec.schedule", "")];
    }
    // five fields of numbers, ranges, steps and names, or a word such as @hourly; a time zone may stand in front
    let bare = schedule.split_whitespace().filter(|w| !w.starts_with("TZ=") && !w.starts_with("CRON_TZ="));
    let fields: Vec<&str> = bare.collect();
    let field = |f: &str| f.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '*' | '/' | '-' | ',' | '?'));
    let fits = schedule.starts_with('@') || fields.len() == 5 && fields.iter().all(|f| field(f));
    if fits {
        return Vec::new();
    }
    let why = format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" "));
    vec![Cause::invalid("spec.schedule", &schedule.into(), &why)]
}

fn update(_: &Server, old: &Value, value: &mut Value) {
    pods::complete_spec(value.pointer_mut("/spec/template/spec"));
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["completions", "parallelism", "selector"] {
        if !spec.contains_key(field)
            && let Some(before) = old.pointer(&format!("/spec/{field}"))
        {
            spec.insert(field.into(), before.clone());
        }
    }
}

fn validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes =
        pods::validate_spec(value.pointer("/spec/template/spec").unwrap_or(&Value::Null), "spec.template.spec");
    if meta::text(value, "/spec/template/spec/restartPolicy") == "Always" {
        causes.push(Cause::required("spec.template.spec.restartPolicy", "valid values: \"OnFailure\", \"Never\""));
    }
    let generated = value.pointer("/spec/manualSelector").and_then(Value::as_bool) != Some(true);
    let labels = value.pointer("/spec/selector/matchLabels").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if generated && labels > 1 {
        let selector = value.pointer("/spec/selector").cloned().unwrap_or_default();
        causes.push(Cause::invalid("spec.selector", &selector, "`selector` not auto-generated"));
    }
    for field in ["completions", "parallelism", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        if let Some(number) = value.pointer(&format!("/spec/{field}")).filter(|n| n.as_i64().is_some_and(|n| n < 0)) {
            causes.push(Cause::invalid(format!("spec.{field}"), number, "must be greater than or equal to 0"));
        }
    }
    causes
}

fn validate_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let suspended = old.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
    let mut causes = Vec::new();
    for field in ["selector", "completionMode", "completions", "template"] {
        let (before, after) = (old.pointer(&format!("/spec/{field}")), value.pointer(&format!("/spec/{field}")));
        if before != after && !(field == "template" && suspended) {
            causes.push(Cause::invalid(format!("spec.{field}"), after.unwrap_or(&Value::Null), "field is immutable"));
        }
    }
    causes
}
