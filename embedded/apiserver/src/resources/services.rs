//! Services: addresses and ports.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::Rules;
use crate::error::Cause;
use crate::meta;
use crate::request::Context;
use crate::server::Server;

pub(crate) const RULES: Rules = Rules {
    prepare_create: Some(create),
    prepare_update: Some(update),
    validate: Some(validate),
    validate_update: None,
};

/// Service addresses are on loopback, 127.32.0.0/16, where something can listen without privileges.
fn free_address(server: &Server) -> String {
    let taken: HashSet<String> = server
        .store
        .list("/services", None)
        .0
        .iter()
        .map(|s| meta::text(&s.value(), "/spec/clusterIP").to_string())
        .collect();
    let all = (0..=255u8).flat_map(|a| (1..=254u8).map(move |b| format!("127.32.{a}.{b}")));
    all.into_iter().find(|ip| !taken.contains(ip)).unwrap_or_default()
}

fn create(server: &Server, _: &Context, value: &mut Value) {
    let external = meta::text(value, "/spec/type") == "ExternalName";
    if meta::text(value, "/spec/clusterIP").is_empty() && !external {
        let address = free_address(server);
        meta::object_mut(value, "spec").insert("clusterIP".into(), address.into());
    }
    complete(value);
    value["status"] = json!({"loadBalancer": {}});
}

fn update(_: &Server, old: &Value, value: &mut Value) {
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(before) = old.pointer(&format!("/spec/{field}")) {
            meta::object_mut(value, "spec").entry(field.to_string()).or_insert_with(|| before.clone());
        }
    }
    complete(value);
}

fn complete(value: &mut Value) {
    let address = meta::text(value, "/spec/clusterIP").to_string();
    let spec = meta::object_mut(value, "spec");
    if !address.is_empty() {
        spec.insert("clusterIPs".into(), json!([address]));
        spec.entry("ipFamilies".to_string()).or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy".to_string()).or_insert_with(|| json!("SingleStack"));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(port) = port
            && let Some(number) = port.get("port").cloned()
        {
            port.entry("targetPort".to_string()).or_insert(number);
        }
    }
}

fn validate(_: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let ports = value.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let headless = meta::text(value, "/spec/clusterIP") == "None";
    if ports.is_empty() && !headless && meta::text(value, "/spec/type") != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        if let Some(number) = port.get("port").filter(|p| !p.as_i64().is_some_and(|p| (1..=65535).contains(&p))) {
            causes.push(Cause::invalid(
                format!("spec.ports[{index}].port"),
                number,
                "must be between 1 and 65535, inclusive",
            ));
        }
        if ports.len() > 1 && meta::text(port, "/name").is_empty() {
            causes.push(Cause::required(format!("spec.ports[{index}].name"), ""));
        }
    }
    causes
}
