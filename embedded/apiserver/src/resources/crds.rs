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

fn create(server: &Server, _: &Context, value: &mut Value) {
    crd::default_names(value);
    let taken = crd::conflict(value, &others(server, value));
    crd::set_status(value, None, taken, &meta::now());
}

fn update(server: &Server, old: &Value, value: &mut Value) {
    crd::default_names(value);
    let taken = crd::conflict(value, &others(server, value));
    crd::set_status(value, Some(old), taken, &meta::now());
}

/// The other definitions of the group.
fn others(server: &Server, value: &Value) -> Vec<Value> {
    let (group, name) = (meta::text(value, "/spec/group"), meta::name(value));
    let all = server.store.list("apiextensions.k8s.io/customresourcedefinitions", None).0;
    let all = all.iter().filter(|o| o.key.name != name).map(|o| o.value());
    all.filter(|o| meta::text(o, "/spec/group") == group).collect()
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
