//! Conversion: one pod that converts or inspects a guest.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ObjectReference, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::map::VolumeMode;
use crate::reference::Ref;
use crate::wire::{unset, wire_enum, yes};
use crate::worker::{ConversionProgress, ConversionResult};

/// The key of `spec.settings` with a snapshot that somebody else took and will remove.
pub const SETTING_SNAPSHOT_MOREF: &str = "SNAPSHOT_MOREF";
/// The key of `spec.settings` with the VM's instance UUID, compared before anything is read.
pub const SETTING_INSTANCE_UUID: &str = "INSTANCE_UUID";
/// The key of `spec.settings` with how disks are read (`ranges`, `nfc`, `vddk`); without it the ways are probed.
pub const SETTING_TRANSFER_METHOD: &str = "TRANSFER_METHOD";

wire_enum! {
    /// What a conversion does.
    ConversionType, "conversion type", {
        /// Inspects the disks at their source.
        DeepInspection => "DeepInspection",
        /// Inspects the disks with virt-v2v; the older way.
        Inspection => "Inspection",
        /// Converts disks that are copied already.
        InPlace => "InPlace",
        /// Copies and converts.
        Remote => "Remote",
    }
}

wire_enum! {
    /// Where a conversion stands.
    ConversionPhase, "conversion phase", {
        /// Not yet begun.
        Pending => "Pending",
        /// Going on.
        Running => "Running",
        /// Ended well.
        Succeeded => "Succeeded",
        /// Ended badly.
        Failed => "Failed",
        /// Ended by its user.
        Canceled => "Canceled",
    }
}

wire_enum! {
    /// What a running conversion is at.
    ConversionStage, "conversion stage", {
        /// The pod is made and scheduled.
        CreatingPod => "CreatingPod",
        /// The pod runs.
        PodRunning => "PodRunning",
        /// A snapshot is taken.
        CreatingSnapshot => "CreatingSnapshot",
        /// A snapshot is being taken.
        WaitingForSnapshot => "WaitingForSnapshot",
        /// The snapshot is removed.
        RemovingSnapshot => "RemovingSnapshot",
        /// The snapshot is being removed.
        WaitingForSnapshotRemoval => "WaitingForSnapshotRemoval",
        /// The results are asked for.
        FetchingResults => "FetchingResults",
        /// Done.
        Finished => "Finished",
    }
}

wire_enum! {
    /// How encrypted disks are unlocked.
    DiskEncryptionType, "disk encryption", {
        /// With keys of a secret.
        Luks => "LUKS",
        /// By Clevis, over the network.
        Clevis => "Clevis",
    }
}

/// What is converted or inspected, and how.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "Conversion",
    namespaced,
    status = "ConversionStatus",
    derive = "PartialEq",
    doc = "One pod that converts or inspects a guest.",
    printcolumn(name = "TYPE", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "PHASE", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "STAGE", type_ = "string", json_path = ".status.stage"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ConversionSpec {
    /// What is done: DeepInspection, Inspection, InPlace or Remote.
    #[serde(rename = "type")]
    pub type_: ConversionType,
    /// The provider whose cluster the pod runs on. Unset: our own cluster.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub destination: ObjectReference,
    /// The VM at its source.
    pub vm: Ref,
    /// The disks: volumes to convert, or the source's paths to inspect.
    #[serde(default, skip_serializing_if = "unset")]
    pub disks: Vec<DiskRef>,
    /// How the source is reached.
    pub connection: Connection,
    /// How encrypted disks are unlocked.
    #[serde(default, skip_serializing_if = "unset")]
    pub disk_encryption: Option<DiskEncryption>,
    /// The image. Unset: the controller's setting.
    #[serde(default, skip_serializing_if = "unset")]
    pub image: String,
    /// The namespace of the pod. Unset: the conversion's own.
    #[serde(default, skip_serializing_if = "unset")]
    pub target_namespace: String,
    /// Use the image for old XFS file systems.
    #[serde(default)]
    pub xfs_compatibility: bool,
    /// Environment variables of the pod.
    #[serde(default, skip_serializing_if = "unset")]
    pub settings: BTreeMap<String, String>,
    /// The image with VDDK; without it disks are read by the vSphere API.
    #[serde(default, skip_serializing_if = "unset")]
    pub vddk_image: String,
    /// Whether source and target are the same cluster.
    #[serde(default, skip_serializing_if = "unset")]
    pub local_migration: bool,
    /// More about the pod.
    #[serde(default, skip_serializing_if = "unset")]
    pub pod_settings: PodSettings,
    /// More volumes of the pod.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::volumes")]
    pub extra_volumes: Vec<Volume>,
    /// Where those are mounted.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::volume_mounts")]
    pub extra_mounts: Vec<VolumeMount>,
}

/// A disk of a conversion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskRef {
    /// Name of the volume claim, or the source's path of the disk.
    pub name: String,
    /// Namespace of the volume claim.
    #[serde(default, skip_serializing_if = "unset")]
    pub namespace: String,
    /// Whether it is a file system or a device.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::string")]
    pub volume_mode: Option<VolumeMode>,
    /// Where a file system is mounted in the pod, e.g. `/mnt/disks/disk0`.
    #[serde(default, skip_serializing_if = "unset")]
    pub mount_path: String,
    /// Where a device is in the pod, e.g. `/dev/block0`.
    #[serde(default, skip_serializing_if = "unset")]
    pub device_path: String,
}

/// How a source is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// The secret with credentials and addresses; each key becomes a variable `V2V_…`.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub secret: ObjectReference,
}

/// How encrypted disks are unlocked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskEncryption {
    /// With keys (LUKS) or over the network (Clevis).
    #[serde(rename = "type")]
    pub type_: DiskEncryptionType,
    /// The secret with the keys, for LUKS.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub secret: ObjectReference,
}

/// More about a conversion's pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Annotations of the transfer network.
    #[serde(default, skip_serializing_if = "unset")]
    pub transfer_network_annotations: BTreeMap<String, String>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "unset")]
    pub node_selector: BTreeMap<String, String>,
    /// The service account.
    #[serde(default, skip_serializing_if = "unset")]
    pub service_account: String,
    /// Where it runs best, or must not.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::merged_affinity")]
    pub affinity: Option<Affinity>,
    /// The beginning of the pod's name.
    #[serde(default, skip_serializing_if = "unset")]
    pub generate_name: String,
    /// Whether it needs a node with KVM.
    #[serde(rename = "requestKVM", default = "yes")]
    pub request_kvm: bool,
}

impl Default for PodSettings {
    fn default() -> Self {
        Self {
            transfer_network_annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            service_account: String::new(),
            affinity: None,
            generate_name: String::new(),
            request_kvm: true,
        }
    }
}

/// How far a conversion is, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversionStatus {
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "unset")]
    pub phase: Option<ConversionPhase>,
    /// What it is at while it runs.
    #[serde(default, skip_serializing_if = "unset")]
    pub stage: Option<ConversionStage>,
    /// What to tell a person.
    #[serde(default, skip_serializing_if = "unset")]
    pub message: String,
    /// The pod.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub pod: ObjectReference,
    /// When it began.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completion_time: Option<Time>,
    /// The snapshot that is inspected.
    #[serde(default, skip_serializing_if = "unset")]
    pub snapshot: Option<SnapshotStatus>,
    /// What the inspection found.
    #[serde(default, skip_serializing_if = "unset")]
    pub inspection_result: Option<InspectionResult>,
    /// How far the pod is, as it last said.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub progress: Option<ConversionProgress>,
    /// What the pod left: warnings, firmware, inspection, and the error if it failed.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub result: Option<ConversionResult>,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

/// A snapshot that is inspected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// The source's id.
    #[serde(default, skip_serializing_if = "unset")]
    pub moref: String,
    /// Whether we took it, and so have to remove it.
    #[serde(default, skip_serializing_if = "unset")]
    pub owned: bool,
    /// The source's task that takes it.
    #[serde(default, skip_serializing_if = "unset")]
    pub create_task_id: String,
    /// The source's task that removes it.
    #[serde(default, skip_serializing_if = "unset")]
    pub remove_task_id: String,
}

/// What an inspection found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InspectionResult {
    /// Whether there is no concern.
    #[serde(default, skip_serializing_if = "unset")]
    pub all_checks_passed: bool,
    /// The guest's system.
    #[serde(default, skip_serializing_if = "unset")]
    pub os_info: Option<OSInfo>,
    /// The concerns.
    #[serde(default, skip_serializing_if = "unset")]
    pub concerns: Vec<InspectionConcern>,
    /// The guest's file systems.
    #[serde(default, skip_serializing_if = "unset")]
    pub filesystems: Vec<InspectionFilesystem>,
    /// Where those are mounted.
    #[serde(default, skip_serializing_if = "unset")]
    pub mountpoints: Vec<InspectionMountpoint>,
    /// Bytes that were read from the source.
    #[serde(default, skip_serializing_if = "unset")]
    pub bytes_read: i64,
}

/// A guest's system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OSInfo {
    /// Its name.
    #[serde(default, skip_serializing_if = "unset")]
    pub name: String,
    /// Its distribution.
    #[serde(default, skip_serializing_if = "unset")]
    pub distro: String,
    /// Its major version.
    #[serde(default, skip_serializing_if = "unset")]
    pub version: String,
    /// Its architecture.
    #[serde(default, skip_serializing_if = "unset")]
    pub arch: String,
}

/// A concern of an inspection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InspectionConcern {
    /// Its id.
    pub id: String,
    /// How much it matters, e.g. Warning or Critical.
    pub category: String,
    /// A title.
    pub label: String,
    /// More about it.
    pub message: String,
}

/// A file system of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InspectionFilesystem {
    /// Its device, e.g. `/dev/sda1`.
    pub device: String,
    /// Its type, e.g. `ext4`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its UUID.
    #[serde(default, skip_serializing_if = "unset")]
    pub uuid: String,
}

/// Where a file system of a guest is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InspectionMountpoint {
    /// Its device.
    pub device: String,
    /// Where.
    pub mount_point: String,
}
