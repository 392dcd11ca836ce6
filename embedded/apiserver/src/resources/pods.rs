//! Pods: status at birth, pull policies, which fields may change.

use serde_json::{Value, json};

use super::{Rules, account_token, metadata, pod_spec, quantity};
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

fn create(server: &Server, context: &Context, value: &mut Value) {
    complete_spec(value.get_mut("spec"));
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        let account = spec
            .get("serviceAccountName")
            .or_else(|| spec.get("serviceAccount"))
            .and_then(Value::as_str)
            .filter(|n| !n.is_empty())
            .unwrap_or("default")
            .to_string();
        spec.insert("serviceAccountName".into(), account.clone().into());
        spec.insert("serviceAccount".into(), account.into());
        spec.entry("preemptionPolicy".to_string()).or_insert_with(|| "PreemptLowerPriority".into());
        spec.entry("priority".to_string()).or_insert_with(|| 0.into());
        spec.entry("enableServiceLinks".to_string()).or_insert_with(|| true.into());
    }
    account_token::add(server, &context.target.namespace, value);
    tolerate_nodes_that_vanish(value);
    let quality = quality(value);
    value["status"] = json!({"phase": "Pending", "qosClass": quality});
}

/// A pod stays for five minutes on a node that is not ready or not reachable, unless it says otherwise.
/// Source: the admission plug-in DefaultTolerationSeconds.
fn tolerate_nodes_that_vanish(pod: &mut Value) {
    let spec = meta::object_mut(pod, "spec");
    let tolerations = spec.entry("tolerations".to_string()).or_insert_with(|| json!([]));
    let Value::Array(tolerations) = tolerations else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let text = |field: &str| meta::text(toleration, field).to_string();
            let any_key = text("/key").is_empty() && text("/operator") == "Exists";
            (text("/key") == key || any_key) && matches!(text("/effect").as_str(), "" | "NoExecute")
        };
        if !tolerations.iter().any(covers) {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

fn update(_: &Server, _: &Value, value: &mut Value) {
    complete_spec(value.get_mut("spec"));
}

/// Fills in what depends on other fields of a pod's spec, in templates too.
pub fn complete_spec(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(volume) = volume
            && volume.len() == 1
            && volume.contains_key("name")
        {
            volume.insert("emptyDir".into(), json!({}));
        }
    }
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            let image = meta::text(container, "/image").to_string();
            let newest = !image.contains('@')
                && image.rsplit('/').next().is_none_or(|last| !last.contains(':') || last.ends_with(":latest"));
            let Some(container) = container.as_object_mut() else { continue };
            container
                .entry("imagePullPolicy".to_string())
                .or_insert_with(|| if newest { "Always".into() } else { "IfNotPresent".into() });
            for amounts in ["limits", "requests"] {
                quantity::normalize(container.get_mut("resources").and_then(|r| r.get_mut(amounts)));
            }
            if let Some(Value::Object(resources)) = container.get_mut("resources")
                && let Some(Value::Object(limits)) = resources.get("limits").cloned()
            {
                // a limit is also the request, if nothing else is said
                let requests = resources.entry("requests".to_string()).or_insert_with(|| json!({}));
                if let Value::Object(requests) = requests {
                    for (name, amount) in limits {
                        requests.entry(name).or_insert(amount);
                    }
                }
            }
        }
    }
}

/// The list of addresses begins with the one address.
pub fn complete_status(pod: &mut Value) {
    let address = meta::text(pod, "/status/podIP").to_string();
    if !address.is_empty() && pod.pointer("/status/podIPs").is_none() {
        meta::object_mut(pod, "status").insert("podIPs".into(), json!([{"ip": address}]));
    }
}

/// Whether a container asks for an amount that is none.
pub fn has_wrong_amount(pod: &Value) -> bool {
    let containers = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).into_iter().flatten());
    let amounts = containers.flat_map(|c| {
        ["limits", "requests"].map(|kind| c.pointer(&format!("/resources/{kind}")).and_then(Value::as_object))
    });
    amounts.flatten().flatten().any(|(_, amount)| quantity::amount(amount).is_none())
}

fn quality(pod: &Value) -> &'static str {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
    let set = |c: &Value, kind: &str, name: &str| c.pointer(&format!("/resources/{kind}/{name}")).cloned();
    let any = containers
        .iter()
        .any(|c| ["limits", "requests"].iter().any(|k| set(c, k, "cpu").is_some() || set(c, k, "memory").is_some()));
    let full = containers.iter().all(|c| {
        ["cpu", "memory"].iter().all(|n| set(c, "limits", n).is_some() && set(c, "limits", n) == set(c, "requests", n))
    });
    match (any, full) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate(_: &Server, value: &Value) -> Vec<Cause> {
    validate_spec(value.get("spec").unwrap_or(&Value::Null), "spec")
}

/// What is wrong with a pod's spec at `at`.
pub fn validate_spec(spec: &Value, at: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let list = |field: &str| spec.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    if list("containers").is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    let volumes: Vec<String> = list("volumes").iter().map(|v| meta::text(v, "/name").to_string()).collect();
    let mut names = Vec::new();
    for field in ["initContainers", "containers"] {
        for (index, container) in list(field).iter().enumerate() {
            let path = format!("{at}.{field}[{index}]");
            let name = meta::text(container, "/name");
            if name.is_empty() {
                if container.get("name").is_some() {
                    causes.push(Cause::required(format!("{path}.name"), ""));
                }
            } else if !metadata::is_label(name) {
                causes.push(Cause::invalid(format!("{path}.name"), &name.into(), "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"));
            } else if names.contains(&name.to_string()) {
                causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
            }
            names.push(name.to_string());
            if meta::text(container, "/image").is_empty() {
                causes.push(Cause::required(format!("{path}.image"), ""));
            }
            causes.extend(pod_spec::container(container, &volumes, &path));
        }
    }
    causes.extend(pod_spec::volumes(spec, at));
    let policy = meta::text(spec, "/restartPolicy");
    if !matches!(policy, "Always" | "OnFailure" | "Never") {
        causes.push(Cause::unsupported(
            format!("{at}.restartPolicy"),
            &policy.into(),
            &["Always".into(), "OnFailure".into(), "Never".into()],
        ));
    }
    causes
}

/// The spec without what may change.
fn fixed(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if let Value::Object(map) = &mut spec {
        for field in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates"] {
            map.shift_remove(field);
        }
    }
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::Object(map) = container {
                map.shift_remove("image");
                map.shift_remove("imagePullPolicy");
            }
        }
    }
    spec
}

fn validate_update(_: &Context, old: &Value, value: &Value) -> Vec<Cause> {
    let size =
        |pod: &Value, field: &str| pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).map_or(0, Vec::len);
    for field in ["containers", "initContainers"] {
        if size(old, field) != size(value, field) {
            return vec![Cause::forbidden(format!("spec.{field}"), "pod updates may not add or remove containers")];
        }
    }
    let mut causes = Vec::new();
    let deadline = |pod: &Value| pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64);
    match (deadline(old), deadline(value)) {
        (Some(before), Some(after)) if after > before => {
            let why = "must be less than or equal to previous value";
            causes.push(Cause::invalid("spec.activeDeadlineSeconds", &after.into(), why));
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            causes.push(Cause::invalid("spec.activeDeadlineSeconds", &Value::Null, why));
        }
        _ => {}
    }
    let tolerations =
        |pod: &Value| pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let after = tolerations(value);
    if tolerations(old).iter().any(|t| !after.contains(t)) {
        causes.push(Cause::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    let (before, mut after) = (fixed(old), fixed(value));
    // a scheduler without the binding subresource
    if meta::text(&before, "/nodeName").is_empty()
        && let Value::Object(map) = &mut after
    {
        map.shift_remove("nodeName");
    }
    let before = if meta::text(&before, "/nodeName").is_empty() { strip_node(before) } else { before };
    if before != after {
        causes.push(Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
    causes
}

fn strip_node(mut spec: Value) -> Value {
    if let Value::Object(map) = &mut spec {
        map.shift_remove("nodeName");
    }
    spec
}
