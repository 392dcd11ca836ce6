//! The collections of a cluster, and which objects they list.

use std::sync::Arc;

use forklift_inventory::{Count, Draft, Field, Json, KindSpec, ProviderSpec, Record};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Map, Value, json};

/// The collections.
pub static SPEC: ProviderSpec = ProviderSpec {
    provider_type: "openshift",
    kinds: &[
        KindSpec { name: "namespaces", base: &BASE, ..KindSpec::PLAIN },
        KindSpec { name: "storageclasses", base: &BASE, ..KindSpec::PLAIN },
        KindSpec { name: "networkattachmentdefinitions", base: &BASE, namespaced: true, ..KindSpec::PLAIN },
        KindSpec { name: "instancetypes", base: &BASE, ..KindSpec::PLAIN },
        KindSpec { name: "clusterinstancetypes", base: &BASE, ..KindSpec::PLAIN },
        KindSpec { name: "vms", base: &BASE, namespaced: true, ..KindSpec::PLAIN },
        KindSpec { name: "persistentvolumeclaims", base: &BASE, namespaced: true, ..KindSpec::PLAIN },
        KindSpec { name: "datavolumes", base: &BASE, namespaced: true, ..KindSpec::PLAIN },
        KindSpec { name: "kubevirts", base: &BASE, namespaced: true, ..KindSpec::PLAIN },
    ],
    counts: &[
        Count { key: "vmCount", kind: "vms", plus: 0 },
        // the pod network is one too
        Count { key: "networkCount", kind: "networkattachmentdefinitions", plus: 1 },
        Count { key: "storageClassCount", kind: "storageclasses", plus: 0 },
    ],
    ..ProviderSpec::PLAIN
};

const BASE: [Field; 7] = Field::all(["uid", "version", "namespace", "name", "selfLink", "path", "id"]);

/// An object kind of the cluster.
pub(super) struct ObjectKind {
    pub collection: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// Whether a restricted provider sees only its namespace's.
    pub namespaced: bool,
}

const fn object(
    collection: &'static str,
    (group, version): (&'static str, &'static str),
    (kind, plural): (&'static str, &'static str),
    namespaced: bool,
) -> ObjectKind {
    ObjectKind { collection, group, version, kind, plural, namespaced }
}

const KUBEVIRT: (&str, &str) = ("kubevirt.io", "v1");
const INSTANCETYPE: (&str, &str) = ("instancetype.kubevirt.io", "v1beta1");

const OBJECTS: &[ObjectKind] = &[
    object("namespaces", ("", "v1"), ("Namespace", "namespaces"), false),
    object("storageclasses", ("storage.k8s.io", "v1"), ("StorageClass", "storageclasses"), false),
    object(
        "networkattachmentdefinitions",
        ("k8s.cni.cncf.io", "v1"),
        ("NetworkAttachmentDefinition", "network-attachment-definitions"),
        true,
    ),
    object("instancetypes", INSTANCETYPE, ("VirtualMachineInstancetype", "virtualmachineinstancetypes"), true),
    object(
        "clusterinstancetypes",
        INSTANCETYPE,
        ("VirtualMachineClusterInstancetype", "virtualmachineclusterinstancetypes"),
        false,
    ),
    object("vms", KUBEVIRT, ("VirtualMachine", "virtualmachines"), true),
    object("persistentvolumeclaims", ("", "v1"), ("PersistentVolumeClaim", "persistentvolumeclaims"), true),
    object("datavolumes", ("cdi.kubevirt.io", "v1beta1"), ("DataVolume", "datavolumes"), true),
    object("kubevirts", KUBEVIRT, ("KubeVirt", "kubevirts"), true),
    // not a collection of its own: shown with its VM
    object(INSTANCES, KUBEVIRT, ("VirtualMachineInstance", "virtualmachineinstances"), true),
];

/// The running instances of VMs.
pub(super) const INSTANCES: &str = "instances";

/// Returns what a collection lists.
pub(super) fn objects(collection: &str) -> Option<&'static ObjectKind> {
    OBJECTS.iter().find(|o| o.collection == collection)
}

impl ObjectKind {
    pub(super) fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

/// Returns an object as a record; a VM may come with its running instance.
pub(super) fn record(
    uid: &str,
    collection: &str,
    object: &DynamicObject,
    instance: Option<&DynamicObject>,
) -> Arc<Record> {
    let metadata = &object.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let id = text(&metadata.uid);
    let mut json = Map::new();
    json.insert("uid".into(), id.clone().into());
    json.insert("version".into(), text(&metadata.resource_version).into());
    json.insert("namespace".into(), text(&metadata.namespace).into());
    json.insert("name".into(), text(&metadata.name).into());
    json.insert("selfLink".into(), SPEC.resource_link(uid, collection, &id).into());
    json.insert("id".into(), id.clone().into());
    json.insert("object".into(), serde_json::to_value(object).unwrap_or_default());
    if let Some(instance) = instance {
        json.insert("instance".into(), serde_json::to_value(instance).unwrap_or_default());
    }
    let (name, namespace) = (text(&metadata.name), text(&metadata.namespace));
    let path = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    Arc::new(Record::new(Draft::new(&id, &name, &path, Json(json.into())), 1))
}

/// Whether a network is a user-defined one that VMs cannot be attached to: primary
/// or routed networks of OVN-Kubernetes.
pub(super) fn is_unsupported_udn(definition: &DynamicObject) -> bool {
    let config = definition.data["spec"]["config"].as_str().unwrap_or_default();
    // what is not JSON is not one of OVN's either
    let config: Value = serde_json::from_str(config).unwrap_or_default();
    config["type"] == "ovn-k8s-cni-overlay" && (config["role"] == "primary" || config["topology"] == "layer3")
}

/// Returns an object as it is shown in full.
pub(super) fn full(record: &Record) -> &Value {
    // every record of this provider is made by `record`
    record.native::<Json>().map_or(&Value::Null, |json| &json.0)
}

/// A tree's node.
pub(super) fn node(kind: &str, object: Value, children: Value) -> Value {
    json!({"kind": kind, "object": object, "children": children})
}
