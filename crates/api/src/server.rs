//! The servers of providers that have none: they read appliances or shares and answer over HTTP.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::wire::unset;

/// Which provider an OVA server serves.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "OVAProviderServer",
    plural = "ovaproviderservers",
    singular = "ovaproviderserver",
    namespaced,
    status = "ProviderServerStatus",
    derive = "PartialEq",
    doc = "The server that reads the appliances of an OVA provider."
)]
pub struct OVAProviderServerSpec {
    /// The provider; it cannot be changed.
    #[schemars(schema_with = "crate::schema::immutable_provider")]
    pub provider: ObjectReference,
}

/// Which provider a Hyper-V server serves.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "HyperVProviderServer",
    plural = "hypervproviderservers",
    singular = "hypervproviderserver",
    namespaced,
    status = "ProviderServerStatus",
    derive = "PartialEq",
    doc = "The server that reads the share of a Hyper-V provider.",
    printcolumn(name = "PHASE", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "SERVICE", type_ = "string", json_path = ".status.service.name")
)]
pub struct HyperVProviderServerSpec {
    /// The provider.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub provider: ObjectReference,
}

/// How far a provider's server is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderServerStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "unset")]
    pub phase: String,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub service: Option<ObjectReference>,
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}
