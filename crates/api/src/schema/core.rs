//! Schemas of core/v1 Affinity, Volume and VolumeMount, as Kubernetes 1.33 has them, without descriptions.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The schema of a pod's affinity, which is replaced as a whole.
pub fn affinity(_: &mut SchemaGenerator) -> Schema {
    schema(atomic(affinity_fields()))
}

/// The schema of a pod's affinity whose parts are merged.
pub fn merged_affinity(_: &mut SchemaGenerator) -> Schema {
    schema(affinity_fields())
}

fn affinity_fields() -> Value {
    let expression = || object(&["key", "operator"], [("key", text()), ("operator", text()), ("values", list(text()))]);
    let node_term =
        || atomic(object(&[], [("matchExpressions", list(expression())), ("matchFields", list(expression()))]));
    let pod_term = || {
        object(
            &["topologyKey"],
            [
                ("labelSelector", label_selector()),
                ("matchLabelKeys", list(text())),
                ("mismatchLabelKeys", list(text())),
                ("namespaceSelector", label_selector()),
                ("namespaces", list(text())),
                ("topologyKey", text()),
            ],
        )
    };
    let weighted =
        |name: &'static str, term: Value| list(object(&[name, "weight"], [(name, term), ("weight", int32())]));
    let pods = || {
        object(
            &[],
            [
                ("preferredDuringSchedulingIgnoredDuringExecution", weighted("podAffinityTerm", pod_term())),
                ("requiredDuringSchedulingIgnoredDuringExecution", list(pod_term())),
            ],
        )
    };
    let nodes = object(
        &[],
        [
            ("preferredDuringSchedulingIgnoredDuringExecution", weighted("preference", node_term())),
            (
                "requiredDuringSchedulingIgnoredDuringExecution",
                atomic(object(&["nodeSelectorTerms"], [("nodeSelectorTerms", list(node_term()))])),
            ),
        ],
    );
    object(&[], [("nodeAffinity", nodes), ("podAffinity", pods()), ("podAntiAffinity", pods())])
}

/// The schema of a pod's volumes.
pub fn volumes(_: &mut SchemaGenerator) -> Schema {
    let mut fields = Map::new();
    fields.insert("name".to_owned(), text());
    for (name, source) in current_sources().into_iter().chain(retired_sources()) {
        fields.insert(name.to_owned(), source);
    }
    schema(json!({ "type": "array", "items": { "type": "object", "required": ["name"], "properties": fields } }))
}

/// The schema of a container's volume mounts.
pub fn volume_mounts(_: &mut SchemaGenerator) -> Schema {
    let mount = object(
        &["mountPath", "name"],
        [
            ("mountPath", text()),
            ("mountPropagation", text()),
            ("name", text()),
            ("readOnly", flag()),
            ("recursiveReadOnly", text()),
            ("subPath", text()),
            ("subPathExpr", text()),
        ],
    );
    schema(json!({ "type": "array", "items": mount }))
}

/// Volume sources that are in use.
fn current_sources() -> Vec<(&'static str, Value)> {
    vec![
        ("configMap", files(&[("defaultMode", int32()), ("name", text_or("")), ("optional", flag())])),
        (
            "csi",
            object(
                &["driver"],
                [
                    ("driver", text()),
                    ("fsType", text()),
                    ("nodePublishSecretRef", local_reference()),
                    ("readOnly", flag()),
                    ("volumeAttributes", texts()),
                ],
            ),
        ),
        ("downwardAPI", object(&[], [("defaultMode", int32()), ("items", list(downward_file()))])),
        ("emptyDir", object(&[], [("medium", text()), ("sizeLimit", quantity())])),
        ("ephemeral", object(&[], [("volumeClaimTemplate", claim_template())])),
        (
            "fc",
            object(
                &[],
                [
                    ("fsType", text()),
                    ("lun", int32()),
                    ("readOnly", flag()),
                    ("targetWWNs", list(text())),
                    ("wwids", list(text())),
                ],
            ),
        ),
        ("hostPath", object(&["path"], [("path", text()), ("type", text())])),
        ("image", object(&[], [("pullPolicy", text()), ("reference", text())])),
        (
            "iscsi",
            object(
                &["iqn", "lun", "targetPortal"],
                [
                    ("chapAuthDiscovery", flag()),
                    ("chapAuthSession", flag()),
                    ("fsType", text()),
                    ("initiatorName", text()),
                    ("iqn", text()),
                    ("iscsiInterface", text_or("default")),
                    ("lun", int32()),
                    ("portals", list(text())),
                    ("readOnly", flag()),
                    ("secretRef", local_reference()),
                    ("targetPortal", text()),
                ],
            ),
        ),
        ("nfs", object(&["path", "server"], [("path", text()), ("readOnly", flag()), ("server", text())])),
        ("persistentVolumeClaim", object(&["claimName"], [("claimName", text()), ("readOnly", flag())])),
        ("projected", object(&[], [("defaultMode", int32()), ("sources", list(projected_source()))])),
        (
            "secret",
            object(
                &[],
                [("defaultMode", int32()), ("items", list(file())), ("optional", flag()), ("secretName", text())],
            ),
        ),
    ]
}

/// Volume sources that Kubernetes still accepts, mostly replaced by CSI drivers.
fn retired_sources() -> Vec<(&'static str, Value)> {
    vec![
        (
            "awsElasticBlockStore",
            object(
                &["volumeID"],
                [("fsType", text()), ("partition", int32()), ("readOnly", flag()), ("volumeID", text())],
            ),
        ),
        (
            "azureDisk",
            object(
                &["diskName", "diskURI"],
                [
                    ("cachingMode", text()),
                    ("diskName", text()),
                    ("diskURI", text()),
                    ("fsType", text_or("ext4")),
                    ("kind", text()),
                    ("readOnly", json!({ "type": "boolean", "default": false })),
                ],
            ),
        ),
        (
            "azureFile",
            object(&["secretName", "shareName"], [("readOnly", flag()), ("secretName", text()), ("shareName", text())]),
        ),
        (
            "cephfs",
            object(
                &["monitors"],
                [
                    ("monitors", list(text())),
                    ("path", text()),
                    ("readOnly", flag()),
                    ("secretFile", text()),
                    ("secretRef", local_reference()),
                    ("user", text()),
                ],
            ),
        ),
        (
            "cinder",
            object(
                &["volumeID"],
                [("fsType", text()), ("readOnly", flag()), ("secretRef", local_reference()), ("volumeID", text())],
            ),
        ),
        (
            "flexVolume",
            object(
                &["driver"],
                [
                    ("driver", text()),
                    ("fsType", text()),
                    ("options", texts()),
                    ("readOnly", flag()),
                    ("secretRef", local_reference()),
                ],
            ),
        ),
        ("flocker", object(&[], [("datasetName", text()), ("datasetUUID", text())])),
        (
            "gcePersistentDisk",
            object(&["pdName"], [("fsType", text()), ("partition", int32()), ("pdName", text()), ("readOnly", flag())]),
        ),
        ("gitRepo", object(&["repository"], [("directory", text()), ("repository", text()), ("revision", text())])),
        ("glusterfs", object(&["endpoints", "path"], [("endpoints", text()), ("path", text()), ("readOnly", flag())])),
        ("photonPersistentDisk", object(&["pdID"], [("fsType", text()), ("pdID", text())])),
        ("portworxVolume", object(&["volumeID"], [("fsType", text()), ("readOnly", flag()), ("volumeID", text())])),
        (
            "quobyte",
            object(
                &["registry", "volume"],
                [
                    ("group", text()),
                    ("readOnly", flag()),
                    ("registry", text()),
                    ("tenant", text()),
                    ("user", text()),
                    ("volume", text()),
                ],
            ),
        ),
        (
            "rbd",
            object(
                &["image", "monitors"],
                [
                    ("fsType", text()),
                    ("image", text()),
                    ("keyring", text_or("/etc/ceph/keyring")),
                    ("monitors", list(text())),
                    ("pool", text_or("rbd")),
                    ("readOnly", flag()),
                    ("secretRef", local_reference()),
                    ("user", text_or("admin")),
                ],
            ),
        ),
        (
            "scaleIO",
            object(
                &["gateway", "secretRef", "system"],
                [
                    ("fsType", text_or("xfs")),
                    ("gateway", text()),
                    ("protectionDomain", text()),
                    ("readOnly", flag()),
                    ("secretRef", local_reference()),
                    ("sslEnabled", flag()),
                    ("storageMode", text_or("ThinProvisioned")),
                    ("storagePool", text()),
                    ("system", text()),
                    ("volumeName", text()),
                ],
            ),
        ),
        (
            "storageos",
            object(
                &[],
                [
                    ("fsType", text()),
                    ("readOnly", flag()),
                    ("secretRef", local_reference()),
                    ("volumeName", text()),
                    ("volumeNamespace", text()),
                ],
            ),
        ),
        (
            "vsphereVolume",
            object(
                &["volumePath"],
                [
                    ("fsType", text()),
                    ("storagePolicyID", text()),
                    ("storagePolicyName", text()),
                    ("volumePath", text()),
                ],
            ),
        ),
    ]
}

fn claim_template() -> Value {
    let resources = object(&[], [("limits", map_of(quantity())), ("requests", map_of(quantity()))]);
    let spec = object(
        &[],
        [
            ("accessModes", list(text())),
            (
                "dataSource",
                atomic(object(&["kind", "name"], [("apiGroup", text()), ("kind", text()), ("name", text())])),
            ),
            (
                "dataSourceRef",
                object(
                    &["kind", "name"],
                    [("apiGroup", text()), ("kind", text()), ("name", text()), ("namespace", text())],
                ),
            ),
            ("resources", resources),
            ("selector", label_selector()),
            ("storageClassName", text()),
            ("volumeAttributesClassName", text()),
            ("volumeMode", text()),
            ("volumeName", text()),
        ],
    );
    object(&["spec"], [("metadata", json!({ "type": "object" })), ("spec", spec)])
}

fn projected_source() -> Value {
    let bundle = object(
        &["path"],
        [
            ("labelSelector", label_selector()),
            ("name", text()),
            ("optional", flag()),
            ("path", text()),
            ("signerName", text()),
        ],
    );
    let token = object(
        &["path"],
        [
            ("audience", text()),
            ("expirationSeconds", json!({ "type": "integer", "format": "int64" })),
            ("path", text()),
        ],
    );
    object(
        &[],
        [
            ("clusterTrustBundle", bundle),
            ("configMap", files(&[("name", text_or("")), ("optional", flag())])),
            ("downwardAPI", object(&[], [("items", list(downward_file()))])),
            ("secret", files(&[("name", text_or("")), ("optional", flag())])),
            ("serviceAccountToken", token),
        ],
    )
}

fn files(more: &[(&'static str, Value)]) -> Value {
    let mut fields = vec![("items", list(file()))];
    fields.extend(more.iter().cloned());
    atomic(object(&[], fields))
}

fn file() -> Value {
    object(&["key", "path"], [("key", text()), ("mode", int32()), ("path", text())])
}

fn downward_file() -> Value {
    let field = atomic(object(&["fieldPath"], [("apiVersion", text()), ("fieldPath", text())]));
    let resource =
        atomic(object(&["resource"], [("containerName", text()), ("divisor", quantity()), ("resource", text())]));
    object(&["path"], [("fieldRef", field), ("mode", int32()), ("path", text()), ("resourceFieldRef", resource)])
}

fn label_selector() -> Value {
    let expression = object(&["key", "operator"], [("key", text()), ("operator", text()), ("values", list(text()))]);
    atomic(object(&[], [("matchExpressions", list(expression)), ("matchLabels", texts())]))
}

fn local_reference() -> Value {
    atomic(object(&[], [("name", text_or(""))]))
}

fn schema(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

fn object(required: &[&str], fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let properties: Map<String, Value> = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
    let mut object = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// Marks an object that is replaced as a whole.
fn atomic(mut object: Value) -> Value {
    object["x-kubernetes-map-type"] = json!("atomic");
    object
}

/// A list that is replaced as a whole.
fn list(items: Value) -> Value {
    json!({ "type": "array", "x-kubernetes-list-type": "atomic", "items": items })
}

fn map_of(values: Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

fn texts() -> Value {
    map_of(text())
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn text_or(default: &str) -> Value {
    json!({ "type": "string", "default": default })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn int32() -> Value {
    json!({ "type": "integer", "format": "int32" })
}

fn quantity() -> Value {
    json!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        "x-kubernetes-int-or-string": true
    })
}
