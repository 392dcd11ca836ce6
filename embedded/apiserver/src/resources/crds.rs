//! Custom resource definitions as objects.

use serde_json::Value;

use super::Rules;
use crate::error::Cause;
use crate::meta;
use crate::registry::crd;
use crate::request::Context;
use crate::server::Server;

pub(crate) const RULES: Rules = Rules {
    prepare_create: Some(create),
    prepare_update: Some(update),
    validate: Some(validate),
    validate_update: Some(validate_update),
};

fn create(_: &Server, _: &Context, value: &mut Value) {
    crd::default_names(value);
    let mut finalizers = meta::finalizers(value);
    if !finalizers.iter().any(|f| f == crd::CLEANUP) {
        finalizers.push(crd::CLEANUP.into());
    }
    meta::set_finalizers(value, finalizers);
    crd::set_status(value, None, &meta::now());
}

fn update(_: &Server, old: &Value, value: &mut Value) {
    crd::default_names(value);
    crd::set_status(value, Some(old), &meta::now());
}

fn validate(server: &Server, value: &Value) -> Vec<Cause> {
    crd::validate(value, &server.registry)
}

fn validate_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in ["group", "scope"] {
        if old.pointer(&format!("/spec/{field}")) != value.pointer(&format!("/spec/{field}")) {
            causes.push(Cause::invalid(
                format!("spec.{field}"),
                value.pointer(&format!("/spec/{field}")).unwrap_or(&Value::Null),
                "field is immutable",
            ));
        }
    }
    causes
}
