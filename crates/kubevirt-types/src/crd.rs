//! Minimal definitions of the kinds, for a cluster that has no KubeVirt.
//!
//! They keep all fields and validate none: the real definitions are KubeVirt's. What people see is the same: names,
//! short names, categories and the columns of `kubectl get`.

use k8s_openapi::Resource;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    NetworkAttachmentDefinition, VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineClusterPreference,
    VirtualMachineInstance, VirtualMachineInstancetype, VirtualMachinePreference,
};

/// Name, JSON path, type and priority of a column.
type Column = (&'static str, &'static str, &'static str, i32);

const AGE: Column = ("Age", ".metadata.creationTimestamp", "date", 0);
const READY: Column = ("Ready", ".status.conditions[?(@.type=='Ready')].status", "string", 0);

struct Shape {
    scope: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    columns: &'static [Column],
    has_status: bool,
}

/// Returns definitions of VirtualMachine, VirtualMachineInstance, instance types, preferences and
/// NetworkAttachmentDefinition.
pub fn crds() -> Vec<CustomResourceDefinition> {
    const NAMESPACED: Shape =
        Shape { scope: "Namespaced", singular: "", short_names: &[], categories: &[], columns: &[], has_status: false };
    const CLUSTER: Shape = Shape { scope: "Cluster", ..NAMESPACED };
    vec![
        crd::<VirtualMachine>(Shape {
            singular: "virtualmachine",
            short_names: &["vm", "vms"],
            categories: &["all"],
            columns: &[AGE, ("Status", ".status.printableStatus", "string", 0), READY],
            has_status: true,
            ..NAMESPACED
        }),
        crd::<VirtualMachineInstance>(Shape {
            singular: "virtualmachineinstance",
            short_names: &["vmi", "vmis"],
            categories: &["all"],
            columns: &[
                AGE,
                ("Phase", ".status.phase", "string", 0),
                ("IP", ".status.interfaces[0].ipAddress", "string", 0),
                ("NodeName", ".status.nodeName", "string", 0),
                READY,
                ("Live-Migratable", ".status.conditions[?(@.type=='LiveMigratable')].status", "string", 1),
                ("Paused", ".status.conditions[?(@.type=='Paused')].status", "string", 1),
            ],
            has_status: true,
            ..NAMESPACED
        }),
        crd::<VirtualMachineInstancetype>(Shape {
            singular: "virtualmachineinstancetype",
            short_names: &["vminstancetype", "vminstancetypes", "vmf", "vmfs"],
            categories: &["all"],
            ..NAMESPACED
        }),
        crd::<VirtualMachineClusterInstancetype>(Shape {
            singular: "virtualmachineclusterinstancetype",
            short_names: &["vmclusterinstancetype", "vmclusterinstancetypes", "vmcf", "vmcfs"],
            ..CLUSTER
        }),
        crd::<VirtualMachinePreference>(Shape {
            singular: "virtualmachinepreference",
            short_names: &["vmpref", "vmprefs", "vmp", "vmps"],
            categories: &["all"],
            ..NAMESPACED
        }),
        crd::<VirtualMachineClusterPreference>(Shape {
            singular: "virtualmachineclusterpreference",
            short_names: &["vmcp", "vmcps"],
            ..CLUSTER
        }),
        crd::<NetworkAttachmentDefinition>(Shape {
            singular: "network-attachment-definition",
            short_names: &["net-attach-def"],
            ..NAMESPACED
        }),
    ]
}

fn crd<K: Resource>(shape: Shape) -> CustomResourceDefinition {
    let texts = |texts: &[&str]| (!texts.is_empty()).then(|| texts.iter().map(|&text| text.to_owned()).collect());
    let keep_everything = JSONSchemaProps {
        type_: Some("object".to_owned()),
        x_kubernetes_preserve_unknown_fields: Some(true),
        ..JSONSchemaProps::default()
    };
    let columns = shape.columns.iter().map(|&(name, json_path, type_, priority)| CustomResourceColumnDefinition {
        name: name.to_owned(),
        json_path: json_path.to_owned(),
        type_: type_.to_owned(),
        priority: (priority != 0).then_some(priority),
        ..CustomResourceColumnDefinition::default()
    });
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("{}.{}", K::URL_PATH_SEGMENT, K::GROUP)), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            group: K::GROUP.to_owned(),
            scope: shape.scope.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: K::KIND.to_owned(),
                list_kind: Some(format!("{}List", K::KIND)),
                plural: K::URL_PATH_SEGMENT.to_owned(),
                singular: Some(shape.singular.to_owned()),
                short_names: texts(shape.short_names),
                categories: texts(shape.categories),
            },
            versions: vec![CustomResourceDefinitionVersion {
                name: K::VERSION.to_owned(),
                served: true,
                storage: true,
                additional_printer_columns: (!shape.columns.is_empty()).then(|| columns.collect()),
                schema: Some(CustomResourceValidation { open_api_v3_schema: Some(keep_everything) }),
                subresources: shape.has_status.then(|| CustomResourceSubresources {
                    status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
                    scale: None,
                }),
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}
