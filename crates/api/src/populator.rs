//! Volume populators: what fills a volume claim that names them as its data source.
//!
//! Their status is written with the object itself: upstream's definitions have no status subresource.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::unset;

/// An image of OpenStack that a volume is filled with.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "OpenstackVolumePopulator",
    namespaced,
    status = "PopulatorStatus",
    derive = "PartialEq",
    shortname = "osvp",
    shortname = "osvps",
    doc = "Fills a volume with an image of OpenStack."
)]
#[serde(rename_all = "camelCase")]
pub struct OpenstackVolumePopulatorSpec {
    /// Where the identity service is.
    pub identity_url: String,
    /// The secret with the credentials.
    pub secret_name: String,
    /// The image.
    pub image_id: String,
    /// The network attachment definition over which it is copied.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub transfer_network: Option<ObjectReference>,
}

/// A disk of oVirt that a volume is filled with.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "OvirtVolumePopulator",
    namespaced,
    status = "PopulatorStatus",
    derive = "PartialEq",
    shortname = "ovvp",
    shortname = "ovvps",
    doc = "Fills a volume with a disk of oVirt."
)]
#[serde(rename_all = "camelCase")]
pub struct OvirtVolumePopulatorSpec {
    /// Where the engine is.
    pub engine_url: String,
    /// The secret with the credentials.
    pub engine_secret_name: String,
    /// The disk.
    pub disk_id: String,
    /// The network attachment definition over which it is copied.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub transfer_network: Option<ObjectReference>,
}

/// How far a populator is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PopulatorStatus {
    /// Per cent.
    #[serde(default, skip_serializing_if = "unset")]
    pub progress: String,
}

/// A disk of vSphere that the storage array copies into a volume.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "VSphereXcopyVolumePopulator",
    plural = "vspherexcopyvolumepopulators",
    singular = "vspherexcopyvolumepopulator",
    namespaced,
    status = "VSphereXcopyVolumePopulatorStatus",
    derive = "PartialEq",
    shortname = "vxvp",
    shortname = "vxvps",
    doc = "Lets the storage array copy a disk of vSphere into a volume."
)]
#[serde(rename_all = "camelCase")]
pub struct VSphereXcopyVolumePopulatorSpec {
    /// vSphere's id of the VM.
    pub vm_id: String,
    /// The disk, as `[datastore] folder/disk.vmdk`.
    pub vmdk_path: String,
    /// The secret with vSphere's and the array's credentials.
    pub secret_name: String,
    /// The array of source and target.
    pub storage_vendor_product: String,
    /// The id of the ESXi host that does the work. Unset: the VM's own.
    #[serde(default, skip_serializing_if = "unset")]
    pub migration_host: String,
}

/// How far an array's copy is, and how it went; all of it text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VSphereXcopyVolumePopulatorStatus {
    /// Per cent.
    #[serde(default, skip_serializing_if = "unset")]
    pub progress: String,
    /// `1` when the array copied, `0` when the host had to.
    #[serde(default, skip_serializing_if = "unset")]
    pub xcopy_used: String,
    /// Version of the package on the host.
    #[serde(default, skip_serializing_if = "unset")]
    pub vib_version: String,
    /// How long it took.
    #[serde(default, skip_serializing_if = "unset")]
    pub copy_duration_seconds: String,
    /// How it went.
    #[serde(default, skip_serializing_if = "unset")]
    pub result: String,
    /// The array.
    #[serde(default, skip_serializing_if = "unset")]
    pub storage_vendor: String,
    /// How it was cloned.
    #[serde(default, skip_serializing_if = "unset")]
    pub clone_method: String,
    /// Over which protocol the host sees the volume.
    #[serde(default, skip_serializing_if = "unset")]
    pub storage_protocol: String,
    /// The size of the disk.
    #[serde(default, skip_serializing_if = "unset")]
    pub provisioned_bytes: String,
    /// How much of it is in use.
    #[serde(default, skip_serializing_if = "unset")]
    pub allocated_bytes: String,
}
