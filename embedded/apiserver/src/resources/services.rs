//! Services: addresses and ports.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    validate_update: Some(validate_update),
};

/// How many addresses there are: .1 to .254 of 256 networks.
const ADDRESSES: usize = 256 * 254;
/// Where this process begins to look: at random, as other servers on this machine draw from the same addresses.
static NEXT_ADDRESS: LazyLock<AtomicUsize> = LazyLock::new(|| anywhere(ADDRESSES));
static NEXT_NODE_PORT: LazyLock<AtomicUsize> = LazyLock::new(|| anywhere(NODE_PORTS.count()));

fn anywhere(below: usize) -> AtomicUsize {
    let random = RandomState::new().hash_one(std::process::id());
    AtomicUsize::new(usize::try_from(random).unwrap_or(0) % below.max(1))
}

/// Service addresses are on loopback, 127.32.0.0/16, where something can listen without privileges.
fn free_address(server: &Server) -> String {
    let taken: HashSet<String> = server
        .store
        .list("/services", None)
        .0
        .iter()
        .map(|s| meta::text(&s.value(), "/spec/clusterIP").to_string())
        .collect();
    // two services that are made at once both find an address free, so none is offered twice in a row
    let from = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed) % ADDRESSES;
    let all = (from..from + ADDRESSES).map(|n| format!("127.32.{}.{}", n % ADDRESSES / 254, n % 254 + 1));
    all.into_iter().find(|ip| !taken.contains(ip)).unwrap_or_default()
}

/// Ports of every node are from this range, as kube-apiserver has it by default.
const NODE_PORTS: std::ops::RangeInclusive<u64> = 30000..=32767;

/// The next number that nobody has; not the one that was offered last, whose service may still be on its way.
fn free_node_port(taken: &HashSet<u64>) -> Option<u64> {
    let from = NEXT_NODE_PORT.fetch_add(1, Ordering::Relaxed);
    let all: Vec<u64> = NODE_PORTS.collect();
    all.iter().cycle().skip(from % all.len()).take(all.len()).copied().find(|n| !taken.contains(n))
}

/// Gives the ports of a service that is reached from outside a number on every node.
fn node_ports(server: &Server, value: &mut Value) {
    if !matches!(meta::text(value, "/spec/type"), "NodePort" | "LoadBalancer") {
        return;
    }
    let mut taken = HashSet::new();
    for service in server.store.list("/services", None).0 {
        let service = service.value();
        let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
        taken.extend(ports.filter_map(|p| p.get("nodePort")?.as_u64()));
    }
    meta::object_mut(value, "spec").entry("externalTrafficPolicy".to_string()).or_insert_with(|| "Cluster".into());
    for port in value.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) == 0
            && let Some(free) = free_node_port(&taken)
        {
            taken.insert(free);
            port["nodePort"] = free.into();
        }
    }
}

fn create(server: &Server, _: &Context, value: &mut Value) {
    let external = meta::text(value, "/spec/type") == "ExternalName";
    if meta::text(value, "/spec/clusterIP").is_empty() && !external {
        let address = free_address(server);
        meta::object_mut(value, "spec").insert("clusterIP".into(), address.into());
    }
    complete(value);
    node_ports(server, value);
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

fn validate_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let (before, after) = (meta::text(old, "/spec/clusterIP"), meta::text(value, "/spec/clusterIP"));
    let external = |v: &Value| meta::text(v, "/spec/type") == "ExternalName";
    if before.is_empty() || before == after || external(old) || external(value) {
        return Vec::new();
    }
    vec![Cause::invalid("spec.clusterIPs[0]", &json!([after]), "may not change once set")]
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

/// Whether another service has the address.
fn is_taken(server: &Server, value: &Value) -> bool {
    let address = meta::text(value, "/spec/clusterIP");
    let uid = meta::text(value, "/metadata/uid");
    !matches!(address, "" | "None")
        && server
            .store
            .list("/services", None)
            .0
            .iter()
            .any(|other| other.uid != uid && meta::text(&other.value(), "/spec/clusterIP") == address)
}

fn validate(server: &Server, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if is_taken(server, value) {
        let addresses = value.pointer("/spec/clusterIPs").cloned().unwrap_or_default();
        let why =
            format!("failed to allocate IP {}: provided IP is already allocated", meta::text(value, "/spec/clusterIP"));
        causes.push(Cause::invalid("spec.clusterIPs", &addresses, &why));
    }
    let ports = value.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let headless = meta::text(value, "/spec/clusterIP") == "None";
    if ports.is_empty() && !headless && meta::text(value, "/spec/type") != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let kind = meta::text(value, "/spec/type");
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        causes.push(Cause::unsupported("spec.type", &kind.into(), &kinds.map(String::from)));
    }
    causes.extend(super::metadata::check_labels(value.pointer("/spec/selector"), "spec.selector"));
    let mut names = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let protocols = ["SCTP", "TCP", "UDP"];
        let protocol = meta::text(port, "/protocol");
        if !protocols.contains(&protocol) {
            let field = format!("spec.ports[{index}].protocol");
            causes.push(Cause::unsupported(field, &protocol.into(), &protocols.map(String::from)));
        }
        let name = meta::text(port, "/name");
        if !name.is_empty() && !names.insert(name.to_string()) {
            causes.push(Cause::duplicate(format!("spec.ports[{index}].name"), &name.into()));
        }
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
