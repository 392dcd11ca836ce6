//! Schemas of the built-in kinds: fields and types from the published definitions, and beside them three tables that
//! those do not carry: how lists merge, which maps are one value, and constant defaults.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::check::Checks;
use super::{ListKind, Schema, Strategy, Type};

/// Makes the published schema of a type, as `k8s-openapi` has it.
pub type SchemaFn = fn(&mut SchemaGenerator) -> schemars::Schema;

/// `(type, field, list keys, strategic merge key, retainKeys)`. List keys empty and merge key empty: a set.
const LISTS: &[(&str, &str, &[&str], &str, bool)] = &[
    ("ObjectMeta", "finalizers", &[], "", false),
    ("ObjectMeta", "ownerReferences", &["uid"], "uid", false),
    ("PodSpec", "volumes", &["name"], "name", true),
    ("PodSpec", "containers", &["name"], "name", false),
    ("PodSpec", "initContainers", &["name"], "name", false),
    ("PodSpec", "ephemeralContainers", &["name"], "name", false),
    ("PodSpec", "imagePullSecrets", &["name"], "name", false),
    ("PodSpec", "hostAliases", &["ip"], "ip", false),
    ("PodSpec", "schedulingGates", &["name"], "name", false),
    ("PodSpec", "resourceClaims", &["name"], "name", true),
    ("PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"], "topologyKey", false),
    ("Container", "ports", &["containerPort", "protocol"], "containerPort", false),
    ("Container", "env", &["name"], "name", false),
    ("Container", "volumeMounts", &["mountPath"], "mountPath", false),
    ("Container", "volumeDevices", &["devicePath"], "devicePath", false),
    ("EphemeralContainer", "ports", &["containerPort", "protocol"], "containerPort", false),
    ("EphemeralContainer", "env", &["name"], "name", false),
    ("EphemeralContainer", "volumeMounts", &["mountPath"], "mountPath", false),
    ("EphemeralContainer", "volumeDevices", &["devicePath"], "devicePath", false),
    ("ResourceRequirements", "claims", &["name"], "name", false),
    ("PodStatus", "conditions", &["type"], "type", false),
    ("PodStatus", "podIPs", &["ip"], "ip", false),
    ("PodStatus", "resourceClaimStatuses", &["name"], "name", true),
    ("ServiceSpec", "ports", &["port", "protocol"], "port", false),
    ("ServiceStatus", "conditions", &["type"], "type", false),
    ("ServiceAccount", "secrets", &["name"], "name", false),
    ("NodeSpec", "podCIDRs", &[], "", false),
    ("NodeStatus", "conditions", &["type"], "type", false),
    ("NodeStatus", "addresses", &["type"], "type", false),
    ("NamespaceStatus", "conditions", &["type"], "type", false),
    ("PersistentVolumeClaimStatus", "conditions", &["type"], "type", false),
    ("DeploymentStatus", "conditions", &["type"], "type", false),
    ("ReplicaSetStatus", "conditions", &["type"], "type", false),
    ("StatefulSetStatus", "conditions", &["type"], "type", false),
    ("DaemonSetStatus", "conditions", &["type"], "type", false),
    ("ReplicationControllerStatus", "conditions", &["type"], "type", false),
    ("PodDisruptionBudgetStatus", "conditions", &["type"], "type", false),
    ("CustomResourceDefinitionStatus", "conditions", &["type"], "type", false),
    ("MutatingWebhookConfiguration", "webhooks", &["name"], "name", false),
    ("ValidatingWebhookConfiguration", "webhooks", &["name"], "name", false),
    ("MutatingWebhook", "matchConditions", &["name"], "name", false),
    ("ValidatingWebhook", "matchConditions", &["name"], "name", false),
    ("CSINodeSpec", "drivers", &["name"], "name", false),
    ("TopologySpreadConstraint", "matchLabelKeys", &[], "", false),
    ("APIServiceStatus", "conditions", &["type"], "type", false),
];

/// Types that are always replaced whole by server-side apply.
const ATOMIC: &[&str] = &[
    "ConfigMapKeySelector",
    "SecretKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "ResourceFieldSelector",
    "ScopedResourceSelectorRequirement",
    "ScopeSelector",
    "SecretReference",
    "TopologySelectorTerm",
    "TypedLocalObjectReference",
    "FileKeySelector",
    "CrossVersionObjectReference",
    "EndpointAddress",
    "EndpointPort",
    "ServiceBackendPort",
    "RoleRef",
    "Subject",
    "OwnerReference",
];

/// Fields that are maps and always replaced whole by server-side apply: `(type, field)`.
const ATOMIC_FIELDS: &[(&str, &str)] =
    &[("ServiceSpec", "selector"), ("PodSpec", "nodeSelector"), ("ReplicationControllerSpec", "selector")];

static DEFAULTS: LazyLock<HashMap<(&str, &str), Value>> = LazyLock::new(|| {
    let rows = [
        ("PodSpec", "restartPolicy", json!("Always")),
        ("PodSpec", "dnsPolicy", json!("ClusterFirst")),
        ("PodSpec", "schedulerName", json!("default-scheduler")),
        ("PodSpec", "terminationGracePeriodSeconds", json!(30)),
        ("PodSpec", "securityContext", json!({})),
        ("Container", "terminationMessagePath", json!("/dev/termination-log")),
        ("Container", "terminationMessagePolicy", json!("File")),
        ("Container", "resources", json!({})),
        ("ContainerPort", "protocol", json!("TCP")),
        ("Probe", "timeoutSeconds", json!(1)),
        ("Probe", "periodSeconds", json!(10)),
        ("Probe", "successThreshold", json!(1)),
        ("Probe", "failureThreshold", json!(3)),
        ("HTTPGetAction", "path", json!("/")),
        ("HTTPGetAction", "scheme", json!("HTTP")),
        ("ObjectFieldSelector", "apiVersion", json!("v1")),
        ("ConfigMapVolumeSource", "defaultMode", json!(420)),
        ("SecretVolumeSource", "defaultMode", json!(420)),
        ("ProjectedVolumeSource", "defaultMode", json!(420)),
        ("DownwardAPIVolumeSource", "defaultMode", json!(420)),
        ("HostPathVolumeSource", "type", json!("")),
        ("ServiceAccountTokenProjection", "expirationSeconds", json!(3600)),
        ("ServicePort", "protocol", json!("TCP")),
        ("ServiceSpec", "sessionAffinity", json!("None")),
        ("ServiceSpec", "type", json!("ClusterIP")),
        ("ServiceSpec", "internalTrafficPolicy", json!("Cluster")),
        ("Secret", "type", json!("Opaque")),
        ("PersistentVolumeClaimSpec", "volumeMode", json!("Filesystem")),
        ("PersistentVolumeSpec", "volumeMode", json!("Filesystem")),
        ("PersistentVolumeSpec", "persistentVolumeReclaimPolicy", json!("Retain")),
        ("StorageClass", "reclaimPolicy", json!("Delete")),
        ("StorageClass", "volumeBindingMode", json!("Immediate")),
        ("JobSpec", "backoffLimit", json!(6)),
        ("JobSpec", "completionMode", json!("NonIndexed")),
        ("JobSpec", "suspend", json!(false)),
        ("JobSpec", "manualSelector", json!(false)),
        ("JobSpec", "podReplacementPolicy", json!("TerminatingOrFailed")),
        ("CronJobSpec", "concurrencyPolicy", json!("Allow")),
        ("CronJobSpec", "suspend", json!(false)),
        ("CronJobSpec", "successfulJobsHistoryLimit", json!(3)),
        ("CronJobSpec", "failedJobsHistoryLimit", json!(1)),
        ("DeploymentSpec", "replicas", json!(1)),
        ("DeploymentSpec", "revisionHistoryLimit", json!(10)),
        ("DeploymentSpec", "progressDeadlineSeconds", json!(600)),
        (
            "DeploymentSpec",
            "strategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
        ),
        ("ReplicaSetSpec", "replicas", json!(1)),
        ("StatefulSetSpec", "replicas", json!(1)),
        ("StatefulSetSpec", "revisionHistoryLimit", json!(10)),
        ("StatefulSetSpec", "podManagementPolicy", json!("OrderedReady")),
        (
            "DaemonSetSpec",
            "updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        ),
        ("StatefulSetSpec", "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
        ("DaemonSetSpec", "revisionHistoryLimit", json!(10)),
        ("CSIDriverSpec", "attachRequired", json!(true)),
        ("CSIDriverSpec", "podInfoOnMount", json!(false)),
        ("MutatingWebhook", "failurePolicy", json!("Fail")),
        ("MutatingWebhook", "matchPolicy", json!("Equivalent")),
        ("MutatingWebhook", "namespaceSelector", json!({})),
        ("MutatingWebhook", "objectSelector", json!({})),
        ("MutatingWebhook", "timeoutSeconds", json!(10)),
        ("MutatingWebhook", "reinvocationPolicy", json!("Never")),
        ("ValidatingWebhook", "failurePolicy", json!("Fail")),
        ("ValidatingWebhook", "matchPolicy", json!("Equivalent")),
        ("ValidatingWebhook", "namespaceSelector", json!({})),
        ("ValidatingWebhook", "objectSelector", json!({})),
        ("ValidatingWebhook", "timeoutSeconds", json!(10)),
        ("RuleWithOperations", "scope", json!("*")),
        ("NamedRuleWithOperations", "scope", json!("*")),
        ("MatchResources", "matchPolicy", json!("Equivalent")),
        ("MatchResources", "namespaceSelector", json!({})),
        ("MatchResources", "objectSelector", json!({})),
        ("ValidatingAdmissionPolicySpec", "failurePolicy", json!("Fail")),
        ("ServiceReference", "port", json!(443)),
        ("CustomResourceDefinitionSpec", "conversion", json!({"strategy": "None"})),
    ];
    rows.into_iter().map(|(kind, field, value)| ((kind, field), value)).collect()
});

static CACHE: LazyLock<Mutex<HashMap<String, Arc<Schema>>>> = LazyLock::new(Mutex::default);

/// A generator whose definitions carry their published names.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::default().into_generator()
}

/// The published definitions reachable from the types, by full name (`io.k8s.api.core.v1.Pod`).
pub fn definitions(kinds: &[SchemaFn]) -> Map<String, Value> {
    let mut generator = generator();
    for make in kinds {
        // the call itself returns a reference; the definitions gather in the generator
        make(&mut generator);
    }
    let mut definitions = generator.take_definitions(true);
    for (name, definition) in &mut definitions {
        complete(name.rsplit('.').next().unwrap_or(name), definition);
    }
    definitions
}

/// Adds to a published definition what clients read from it: how lists merge (`kubectl apply` computes its patch by
/// that) and which maps are one value.
fn complete(short: &str, definition: &mut Value) {
    let Some(definition) = definition.as_object_mut() else { return };
    // the generator takes what is always there in memory for what a client has to send
    if let Some(Value::Array(required)) = definition.get_mut("required") {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            definition.shift_remove("required");
        }
    }
    if ATOMIC.contains(&short) {
        definition.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let Some(Value::Object(properties)) = definition.get_mut("properties") else { return };
    for (_, field) in ATOMIC_FIELDS.iter().filter(|row| row.0 == short) {
        if let Some(Value::Object(property)) = properties.get_mut(*field) {
            property.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
    }
    for (_, field, keys, merge, retain) in LISTS.iter().filter(|row| row.0 == short) {
        let Some(Value::Object(property)) = properties.get_mut(*field) else { continue };
        property.insert("x-kubernetes-list-type".into(), if keys.is_empty() { "set" } else { "map" }.into());
        if !keys.is_empty() {
            property.insert("x-kubernetes-list-map-keys".into(), json!(keys));
        }
        if !merge.is_empty() {
            property.insert("x-kubernetes-patch-merge-key".into(), (*merge).into());
        }
        let strategy = if *retain { "merge,retainKeys" } else { "merge" };
        property.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
}

/// Schema of `T`, a kind named `kind`.
#[cfg(test)]
pub fn of<T: schemars::JsonSchema>(kind: &str) -> Arc<Schema> {
    kind_schema(kind, |g| g.subschema_for::<T>())
}

/// Schema of the kind that `make` publishes.
pub fn kind_schema(kind: &str, make: SchemaFn) -> Arc<Schema> {
    let definitions = definitions(&[make]);
    let suffix = format!(".{kind}");
    let Some(name) = definitions.keys().find(|n| n.ends_with(&suffix)).cloned() else { return Schema::any() };
    let mut cache = CACHE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Builder { definitions: &definitions, cache: &mut cache, stack: Vec::new() }.named(&name)
}

/// Schema of `metadata`.
pub fn object_meta() -> Arc<Schema> {
    static META: LazyLock<Arc<Schema>> =
        LazyLock::new(|| kind_schema("ObjectMeta", |g| g.subschema_for::<ObjectMeta>()));
    META.clone()
}

struct Builder<'a> {
    definitions: &'a Map<String, Value>,
    cache: &'a mut HashMap<String, Arc<Schema>>,
    stack: Vec<String>,
}

impl Builder<'_> {
    fn named(&mut self, full: &str) -> Arc<Schema> {
        if let Some(known) = self.cache.get(full) {
            return known.clone();
        }
        let short = full.rsplit('.').next().unwrap_or(full).to_string();
        // schemas of custom resources describe themselves recursively; the CRD code checks them
        let opaque = matches!(short.as_str(), "JSONSchemaProps" | "JSON" | "RawExtension" | "FieldsV1");
        let Some(json) = self.definitions.get(full).filter(|_| !opaque && !self.stack.iter().any(|s| s == full)) else {
            return Schema::any();
        };
        self.stack.push(full.to_string());
        let mut schema = self.node(json);
        self.stack.pop();
        for (name, property) in json.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut child = self.node(property);
            if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
                self.stack.push(full.to_string());
                let target = self.named(reference.rsplit('/').next().unwrap_or(reference));
                self.stack.pop();
                let default = DEFAULTS.get(&(short.as_str(), name.as_str())).cloned();
                if default.is_none() {
                    schema.properties.insert(name.clone(), target);
                    continue;
                }
                child = shallow(&target);
            }
            child.default = DEFAULTS.get(&(short.as_str(), name.as_str())).cloned();
            child.atomic |= ATOMIC_FIELDS.contains(&(short.as_str(), name.as_str()));
            if let Some((_, _, keys, merge, retain)) = LISTS.iter().find(|row| row.0 == short && row.1 == name) {
                child.list = if keys.is_empty() {
                    ListKind::Set
                } else {
                    ListKind::Map(keys.iter().map(|k| (*k).to_string()).collect())
                };
                child.strategy =
                    Some(Strategy { key: (!merge.is_empty()).then(|| (*merge).to_string()), retain_keys: *retain });
            }
            schema.properties.insert(name.clone(), Arc::new(child));
        }
        schema.atomic = ATOMIC.contains(&short.as_str());
        if schema.kind == Type::Object && schema.properties.is_empty() && schema.additional.is_none() {
            schema.preserve_unknown = true;
        }
        let schema = Arc::new(schema);
        if self.stack.is_empty() || !self.stack.iter().any(|s| s == full) {
            self.cache.insert(full.to_string(), schema.clone());
        }
        schema
    }

    fn child(&mut self, json: &Value) -> Arc<Schema> {
        match json.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.named(reference.rsplit('/').next().unwrap_or(reference)),
            None => Arc::new(self.node(json)),
        }
    }

    /// One node without its properties.
    fn node(&mut self, json: &Value) -> Schema {
        let kind = match json.get("type").and_then(Value::as_str) {
            Some("object") => Type::Object,
            Some("array") => Type::Array,
            Some("string") => Type::String,
            Some("integer") => Type::Integer,
            Some("number") => Type::Number,
            Some("boolean") => Type::Boolean,
            _ => Type::Any,
        };
        let format = json.get("format").and_then(Value::as_str).filter(|f| *f == "date-time" || *f == "byte");
        Schema {
            kind,
            items: json.get("items").map(|items| self.child(items)),
            additional: json.get("additionalProperties").filter(|a| a.is_object()).map(|a| self.child(a)),
            int_or_string: json.get("x-kubernetes-int-or-string").is_some(),
            required: super::parse::strings(json.get("required")),
            preserve_unknown: kind == Type::Any
                && json.get("$ref").is_none()
                && json.get("x-kubernetes-int-or-string").is_none(),
            checks: format.map(|f| Box::new(Checks { format: Some(f.to_string()), ..Checks::default() })),
            ..Schema::default()
        }
    }
}

/// A copy that shares the children.
fn shallow(schema: &Schema) -> Schema {
    Schema {
        kind: schema.kind,
        properties: schema.properties.clone(),
        additional: schema.additional.clone(),
        items: schema.items.clone(),
        required: schema.required.clone(),
        preserve_unknown: schema.preserve_unknown,
        int_or_string: schema.int_or_string,
        atomic: schema.atomic,
        ..Schema::default()
    }
}
