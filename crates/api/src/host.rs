//! Host: an ESXi host that is reached directly, with credentials and an address of its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::reference::Ref;
use crate::wire::unset;

/// Which host, and how it is reached.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "Host",
    namespaced,
    status = "HostStatus",
    derive = "PartialEq",
    doc = "A host of a source that disks are read from directly.",
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(
        name = "CONNECTED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='ConnectionTestSucceeded')].status"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// The host by id or name.
    #[serde(flatten)]
    pub reference: Ref,
    /// The provider that it belongs to.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub provider: ObjectReference,
    /// The address over which disks are copied.
    pub ip_address: String,
    /// The secret with its user and password.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub secret: ObjectReference,
}

/// What was found out about a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}
