//! Events and leases: what their writers have to say.

use serde_json::Value;

use super::Rules;
use crate::error::Cause;
use crate::meta;
use crate::server::Server;

pub(crate) const EVENTS: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(in_its_namespace), validate_update: None };
pub(crate) const NEW_EVENTS: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(complete), validate_update: None };
pub(crate) const LEASES: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(lease), validate_update: None };

/// An event is where its object is; objects outside of namespaces have theirs in `default`.
fn in_its_namespace(_: &Server, value: &Value) -> Vec<Cause> {
    let object = meta::text(value, "/involvedObject/namespace");
    let here = meta::namespace(value);
    if object == here || object.is_empty() && matches!(here, "default" | "kube-system") {
        return Vec::new();
    }
    vec![Cause::invalid("involvedObject.namespace", &object.into(), "does not match event.namespace")]
}

/// The group events.k8s.io asks for more, unless the event comes from the core group.
fn complete(_: &Server, value: &Value) -> Vec<Cause> {
    let old = |field: &str| value.get(field).is_some_and(|v| !v.is_null());
    if old("deprecatedFirstTimestamp") || old("deprecatedCount") {
        return Vec::new();
    }
    let fields = ["eventTime", "reportingController", "reportingInstance", "action", "reason"];
    let absent = fields.iter().filter(|field| meta::text(value, &format!("/{field}")).is_empty());
    absent.map(|field| Cause::required(*field, "")).collect()
}

fn lease(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let number = |field: &str| value.pointer(&format!("/spec/{field}")).and_then(Value::as_i64);
    if let Some(seconds) = number("leaseDurationSeconds").filter(|n| *n <= 0) {
        causes.push(Cause::invalid("spec.leaseDurationSeconds", &seconds.into(), "must be greater than 0"));
    }
    if let Some(count) = number("leaseTransitions").filter(|n| *n < 0) {
        causes.push(Cause::invalid("spec.leaseTransitions", &count.into(), "must be greater than or equal to 0"));
    }
    causes
}
