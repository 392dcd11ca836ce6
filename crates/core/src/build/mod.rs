//! Builders of what is created on the target: manifests out of plan and machine, once for all sources.
//!
//! Every object carries the labels that say whose it is (plan, migration, VM); names are derived
//! ([`crate::names`]), so that building twice gives the same object.
pub mod conversion;
pub mod hook_job;
pub mod importer_job;
pub mod importer_limit;
pub mod inspection;
pub mod namespace;
pub mod openshift_template;
pub mod ova_server;
pub mod pvc;
pub mod source_metadata;
pub mod store;
pub mod vddk;
pub mod virtual_machine;

use forklift_api::labels;
use serde_json::{Map, Value, json};

use crate::plan::world::{PlanFacts, PlanVm};

/// Returns the labels of everything that belongs to a plan's active migration.
pub fn plan_labels(plan: &PlanFacts) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert(labels::MIGRATION.into(), json!(plan.migration_uid));
    map.insert(labels::PLAN.into(), json!(plan.uid));
    map.insert(labels::PLAN_NAME.into(), json!(plan.name));
    map.insert(labels::PLAN_NAMESPACE.into(), json!(plan.namespace));
    map
}

/// Returns the labels of everything that belongs to a VM of the active migration.
pub fn vm_labels(plan: &PlanFacts, vm: &PlanVm) -> Map<String, Value> {
    let mut map = plan_labels(plan);
    map.insert(labels::VM_ID.into(), json!(vm.id));
    map.insert(labels::RESOURCE.into(), json!(labels::RESOURCE_VM_CONFIG));
    map
}

/// Returns the selector for everything of a VM, whatever migration of the plan it is of.
pub fn vm_selector(plan_uid: &str, vm_id: &str) -> String {
    format!("{}={plan_uid},{}={vm_id}", labels::PLAN, labels::VM_ID)
}

/// The security settings of our pods: user 107 (qemu), nothing that is not needed.
pub(crate) fn pod_security() -> Value {
    json!({"runAsUser": 107, "runAsGroup": 107, "fsGroup": 107, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
}

/// The security settings of our containers.
pub(crate) fn container_security() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

/// The variable with the pod's own address, on which workers listen.
pub(crate) fn pod_ip() -> Value {
    json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
}

/// Returns `object` with a field, unless its value is null or empty.
pub(crate) fn put(object: &mut Value, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if !empty {
        object[key] = value;
    }
}
