//! The table of built-in resources.

use std::sync::OnceLock;

use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, authentication::v1 as authn, authorization::v1 as authz,
    autoscaling::v2 as autoscaling, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, networking::v1 as networking, node::v1 as node,
    policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use super::{Access, Resource, Scale, Shape};

fn publish<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

const NS: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;
const SCALE: u8 = 8;
const ASK: u8 = 16;
const ALL: u8 = 32;

fn row<T: JsonSchema>(group: &str, version: &str, kind: &str, plural: &str, short: &[&str], flags: u8) -> Resource {
    let has = |flag: u8| flags & flag != 0;
    let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
    Resource {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        kind: kind.into(),
        list_kind: format!("{kind}List"),
        short_names: short.iter().map(|s| (*s).to_string()).collect(),
        categories: if has(ALL) { vec!["all".into()] } else { Vec::new() },
        namespaced: has(NS),
        access: if has(ASK) { Access::Ask } else { Access::Stored },
        status: has(STATUS),
        scale: has(SCALE).then(|| Scale {
            spec: ".spec.replicas".into(),
            status: ".status.replicas".into(),
            selector: None,
        }),
        generation: has(GENERATION),
        subresources: match (group, plural) {
            ("", "pods") => &[
                ("attach", "PodAttachOptions"),
                ("exec", "PodExecOptions"),
                ("log", "Pod"),
                ("portforward", "PodPortForwardOptions"),
                ("proxy", "PodProxyOptions"),
                ("binding", "Binding"),
                ("eviction", "Eviction"),
                ("ephemeralcontainers", "Pod"),
                ("resize", "Pod"),
            ],
            ("", "serviceaccounts") => &[("token", "TokenRequest")],
            ("", "services") => &[("proxy", "ServiceProxyOptions")],
            ("", "namespaces") => &[("finalize", "Namespace")],
            _ => &[],
        },
        storage: format!("{group}/{plural}").into(),
        storage_version: api_version,
        custom: false,
        columns: Vec::new(),
        selectable: Vec::new(),
        published: Value::Null,
        since: 0,
        stored_schema: None,
        conversion: None,
        shape: Shape::Builtin(publish::<T>),
        schema: OnceLock::new(),
    }
}

/// All built-in resources.
pub fn resources() -> Vec<Resource> {
    const WORK: u8 = NS | STATUS | GENERATION | ALL;
    // the same stored objects as core events, in newer clothes: see `convert`
    let mut new_events = row::<events::Event>("events.k8s.io", "v1", "Event", "events", &["ev"], NS);
    new_events.storage = "/events".into();
    new_events.storage_version = "v1".into();
    vec![
        row::<core::Namespace>("", "v1", "Namespace", "namespaces", &["ns"], STATUS),
        row::<core::Pod>("", "v1", "Pod", "pods", &["po"], NS | STATUS | GENERATION | ALL),
        row::<core::PodTemplate>("", "v1", "PodTemplate", "podtemplates", &[], NS),
        row::<core::ReplicationController>(
            "",
            "v1",
            "ReplicationController",
            "replicationcontrollers",
            &["rc"],
            WORK | SCALE,
        ),
        row::<core::Service>("", "v1", "Service", "services", &["svc"], NS | STATUS | ALL),
        row::<core::Endpoints>("", "v1", "Endpoints", "endpoints", &["ep"], NS),
        row::<core::Secret>("", "v1", "Secret", "secrets", &[], NS),
        row::<core::ConfigMap>("", "v1", "ConfigMap", "configmaps", &["cm"], NS),
        row::<core::ServiceAccount>("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], NS),
        row::<core::PersistentVolumeClaim>(
            "",
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            &["pvc"],
            NS | STATUS,
        ),
        row::<core::PersistentVolume>("", "v1", "PersistentVolume", "persistentvolumes", &["pv"], STATUS),
        row::<core::Event>("", "v1", "Event", "events", &["ev"], NS),
        row::<core::Node>("", "v1", "Node", "nodes", &["no"], STATUS),
        row::<core::LimitRange>("", "v1", "LimitRange", "limitranges", &["limits"], NS),
        row::<core::ResourceQuota>("", "v1", "ResourceQuota", "resourcequotas", &["quota"], NS | STATUS),
        row::<apps::Deployment>("apps", "v1", "Deployment", "deployments", &["deploy"], WORK | SCALE),
        row::<apps::ReplicaSet>("apps", "v1", "ReplicaSet", "replicasets", &["rs"], WORK | SCALE),
        row::<apps::StatefulSet>("apps", "v1", "StatefulSet", "statefulsets", &["sts"], WORK | SCALE),
        row::<apps::DaemonSet>("apps", "v1", "DaemonSet", "daemonsets", &["ds"], WORK),
        row::<apps::ControllerRevision>("apps", "v1", "ControllerRevision", "controllerrevisions", &[], NS),
        row::<batch::Job>("batch", "v1", "Job", "jobs", &[], WORK),
        row::<batch::CronJob>("batch", "v1", "CronJob", "cronjobs", &["cj"], WORK),
        row::<autoscaling::HorizontalPodAutoscaler>(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            &["hpa"],
            NS | STATUS | ALL,
        ),
        row::<storage::StorageClass>("storage.k8s.io", "v1", "StorageClass", "storageclasses", &["sc"], 0),
        row::<storage::VolumeAttachment>("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", &[], STATUS),
        row::<storage::CSIDriver>("storage.k8s.io", "v1", "CSIDriver", "csidrivers", &[], 0),
        row::<storage::CSINode>("storage.k8s.io", "v1", "CSINode", "csinodes", &[], 0),
        row::<storage::CSIStorageCapacity>(
            "storage.k8s.io",
            "v1",
            "CSIStorageCapacity",
            "csistoragecapacities",
            &[],
            NS,
        ),
        row::<coordination::Lease>("coordination.k8s.io", "v1", "Lease", "leases", &[], NS),
        row::<rbac::Role>("rbac.authorization.k8s.io", "v1", "Role", "roles", &[], NS),
        row::<rbac::RoleBinding>("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", &[], NS),
        row::<rbac::ClusterRole>("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", &[], 0),
        row::<rbac::ClusterRoleBinding>(
            "rbac.authorization.k8s.io",
            "v1",
            "ClusterRoleBinding",
            "clusterrolebindings",
            &[],
            0,
        ),
        row::<apiextensions::CustomResourceDefinition>(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            &["crd", "crds"],
            STATUS | GENERATION,
        ),
        row::<apiregistration::APIService>("apiregistration.k8s.io", "v1", "APIService", "apiservices", &[], STATUS),
        row::<admission::MutatingWebhookConfiguration>(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            &[],
            GENERATION,
        ),
        row::<admission::ValidatingWebhookConfiguration>(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            &[],
            GENERATION,
        ),
        row::<admission::ValidatingAdmissionPolicy>(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            &[],
            STATUS | GENERATION,
        ),
        row::<admission::ValidatingAdmissionPolicyBinding>(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            &[],
            GENERATION,
        ),
        row::<policy::PodDisruptionBudget>(
            "policy",
            "v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            &["pdb"],
            NS | STATUS | GENERATION,
        ),
        row::<scheduling::PriorityClass>(
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
            "priorityclasses",
            &["pc"],
            GENERATION,
        ),
        row::<node::RuntimeClass>("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", &[], 0),
        row::<networking::NetworkPolicy>(
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            "networkpolicies",
            &["netpol"],
            NS | GENERATION,
        ),
        row::<networking::Ingress>(
            "networking.k8s.io",
            "v1",
            "Ingress",
            "ingresses",
            &["ing"],
            NS | STATUS | GENERATION,
        ),
        row::<networking::IngressClass>("networking.k8s.io", "v1", "IngressClass", "ingressclasses", &[], GENERATION),
        row::<discovery::EndpointSlice>(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
            &[],
            NS | GENERATION,
        ),
        new_events,
        row::<authn::TokenReview>("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", &[], ASK),
        row::<authn::SelfSubjectReview>(
            "authentication.k8s.io",
            "v1",
            "SelfSubjectReview",
            "selfsubjectreviews",
            &[],
            ASK,
        ),
        row::<authz::SubjectAccessReview>(
            "authorization.k8s.io",
            "v1",
            "SubjectAccessReview",
            "subjectaccessreviews",
            &[],
            ASK,
        ),
        row::<authz::SelfSubjectAccessReview>(
            "authorization.k8s.io",
            "v1",
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
            &[],
            ASK,
        ),
        row::<authz::SelfSubjectRulesReview>(
            "authorization.k8s.io",
            "v1",
            "SelfSubjectRulesReview",
            "selfsubjectrulesreviews",
            &[],
            ASK,
        ),
        row::<authz::LocalSubjectAccessReview>(
            "authorization.k8s.io",
            "v1",
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            &[],
            ASK | NS,
        ),
    ]
}
