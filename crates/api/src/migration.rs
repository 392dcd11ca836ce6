//! Migration: one run of a plan.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::plan_status::{Timed, VMStatus};
use crate::reference::Ref;
use crate::wire::unset;

/// Which plan is run, and what is to happen on the way.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "Migration",
    namespaced,
    status = "MigrationStatus",
    derive = "PartialEq",
    doc = "One run of a Plan.",
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "RUNNING", type_ = "string", json_path = ".status.conditions[?(@.type=='Running')].status"),
    printcolumn(name = "SUCCEEDED", type_ = "string", json_path = ".status.conditions[?(@.type=='Succeeded')].status"),
    printcolumn(name = "FAILED", type_ = "string", json_path = ".status.conditions[?(@.type=='Failed')].status"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    /// The plan.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub plan: ObjectReference,
    /// VMs whose migration is given up.
    #[serde(default, skip_serializing_if = "unset")]
    pub cancel: Vec<Ref>,
    /// When warm migrations are finished: the VMs are shut down then.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub cutover: Option<Time>,
    /// The same for single VMs; wins over `cutover`.
    #[serde(rename = "vmCutover", default, skip_serializing_if = "unset")]
    pub vm_cutover: Vec<VMCutover>,
    /// Copy nothing, and repeat the conversion on the volumes of a migration whose conversion failed.
    #[serde(default, skip_serializing_if = "unset")]
    pub resume_conversion: bool,
}

/// When one VM's warm migration is finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VMCutover {
    /// The source's id of the VM.
    #[schemars(length(min = 1))]
    pub id: String,
    /// When.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub cutover: Time,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// When it began and ended.
    #[serde(flatten)]
    pub timed: Timed,
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// How far each VM is.
    #[serde(default, skip_serializing_if = "unset")]
    pub vms: Vec<VMStatus>,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl MigrationSpec {
    /// Returns when a VM's warm migration is finished.
    pub fn cutover_for(&self, vm: &Ref) -> Option<&Time> {
        self.vm_cutover
            .iter()
            .find(|entry| !vm.id.is_empty() && entry.id == vm.id)
            .map(|entry| &entry.cutover)
            .or(self.cutover.as_ref())
    }

    /// Whether a VM's migration is given up. Entries without an id count once they are resolved.
    pub fn cancels(&self, vm: &Ref) -> bool {
        !vm.id.is_empty() && self.cancel.iter().any(|entry| entry.id == vm.id)
    }
}
