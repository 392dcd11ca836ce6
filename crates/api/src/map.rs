//! NetworkMap and StorageMap: which network and storage of the source becomes which of the target.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::provider::ProviderPair;
use crate::reference::Ref;
use crate::wire::{unset, wire_enum};

/// The annotation of NetApp Shift's storage classes.
pub const NETAPP_SHIFT_ANNOTATION: &str = "shift.netapp.io/storage-class-type";
/// The value of [`NETAPP_SHIFT_ANNOTATION`].
pub const NETAPP_SHIFT_VALUE: &str = "shift";
/// The name that stands for OpenStack's image storage in a storage map.
pub const GLANCE: &str = "glance";

wire_enum! {
    /// What a network becomes.
    DestinationNetworkType, "network type", {
        /// The pod network.
        Pod => "pod",
        /// A network attachment definition.
        Multus => "multus",
        /// Nothing: the NIC is left out.
        Ignored => "ignored",
    }
}

wire_enum! {
    /// Whether a volume is a file system or a block device.
    VolumeMode, "volume mode", {
        /// A directory that holds the image.
        Filesystem => "Filesystem",
        /// A block device.
        Block => "Block",
    }
}

wire_enum! {
    /// Who may use a volume.
    AccessMode, "access mode", {
        /// One node.
        ReadWriteOnce => "ReadWriteOnce",
        /// Many nodes.
        ReadWriteMany => "ReadWriteMany",
        /// Many nodes, for reading.
        ReadOnlyMany => "ReadOnlyMany",
    }
}

wire_enum! {
    /// Storage arrays that copy by themselves.
    StorageVendorProduct, "storage product", {
        /// IBM FlashSystem.
        FlashSystem => "flashsystem",
        /// Hitachi Vantara.
        Vantara => "vantara",
        /// NetApp ONTAP.
        Ontap => "ontap",
        /// HPE Primera and 3PAR.
        Primera3Par => "primera3par",
        /// Pure Storage FlashArray.
        PureFlashArray => "pureFlashArray",
        /// Dell PowerFlex.
        PowerFlex => "powerflex",
        /// Dell PowerMax.
        PowerMax => "powermax",
        /// Dell PowerStore.
        PowerStore => "powerstore",
        /// Infinidat InfiniBox.
        Infinibox => "infinibox",
    }
}

wire_enum! {
    /// Storage arrays whose driver takes over existing volumes.
    CsiImportProduct, "storage product", {
        /// HPE Primera and 3PAR.
        Primera3Par => "primera3par",
        /// NetApp ONTAP.
        Ontap => "ontap",
    }
}

/// Which networks become which.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "NetworkMap",
    namespaced,
    status = "MapStatus",
    derive = "PartialEq",
    doc = "Which networks of a source become which networks of the target.",
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct NetworkMapSpec {
    /// Between which providers.
    pub provider: ProviderPair,
    /// The pairs. Several with the same source are a pool of networks for VMs with several NICs there.
    pub map: Vec<NetworkPair>,
}

/// One network and what it becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkPair {
    /// The network of the source.
    pub source: NetworkSource,
    /// What it becomes.
    pub destination: DestinationNetwork,
}

/// A network of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkSource {
    /// Its id or name.
    #[serde(flatten)]
    pub reference: Ref,
    /// The VLAN, 1 to 4094, where one network carries several.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(regex(pattern = r"^([1-9]|[1-9][0-9]{1,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-4])$"))]
    pub vlan: String,
}

/// What a network becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationNetwork {
    /// `pod` for the pod network, `multus` for a network attachment definition, `ignored` to leave the NIC out.
    #[serde(rename = "type")]
    pub type_: DestinationNetworkType,
    /// Namespace of the network attachment definition.
    #[serde(default, skip_serializing_if = "unset")]
    pub namespace: String,
    /// Name of the network attachment definition.
    #[serde(default, skip_serializing_if = "unset")]
    pub name: String,
}

/// Which storage becomes which.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "StorageMap",
    namespaced,
    status = "MapStatus",
    derive = "PartialEq",
    doc = "Which storage of a source becomes which storage class of the target.",
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct StorageMapSpec {
    /// Between which providers.
    pub provider: ProviderPair,
    /// The pairs.
    pub map: Vec<StoragePair>,
}

/// One storage and what it becomes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoragePair {
    /// The storage of the source.
    pub source: Ref,
    /// What it becomes.
    pub destination: DestinationStorage,
    /// Lets the storage array copy.
    #[serde(default, skip_serializing_if = "unset")]
    pub offload_plugin: Option<OffloadPlugin>,
}

/// A storage class and how its volumes are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStorage {
    /// The storage class.
    pub storage_class: String,
    /// The volumes' mode; the class's own when it is not said.
    #[serde(default, skip_serializing_if = "unset")]
    pub volume_mode: Option<VolumeMode>,
    /// The volumes' access mode; the class's own when it is not said.
    #[serde(default, skip_serializing_if = "unset")]
    pub access_mode: Option<AccessMode>,
}

/// How a storage array copies; at most one way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OffloadPlugin {
    /// The array copies what vSphere asks it to.
    #[serde(default, skip_serializing_if = "unset")]
    pub vsphere_xcopy_config: Option<VSphereXcopyPluginConfig>,
    /// The storage driver takes over the array's volume.
    #[serde(default, skip_serializing_if = "unset")]
    pub csi_volume_import: Option<CsiVolumeImport>,
}

/// Copy by the array, asked by vSphere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VSphereXcopyPluginConfig {
    /// Name of the secret with the array's credentials, in the source provider's namespace.
    pub secret_ref: String,
    /// Which array it is.
    pub storage_vendor_product: StorageVendorProduct,
    /// Ids of ESXi hosts that do the work instead of the VM's own.
    #[serde(default, skip_serializing_if = "unset")]
    pub dedicated_migration_hosts: Vec<String>,
}

/// Take-over of an array's volume by its storage driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CsiVolumeImport {
    /// Name of the secret with the array's credentials, in the source provider's namespace.
    pub secret_ref: String,
    /// Which array it is.
    pub storage_vendor_product: CsiImportProduct,
}

/// What was found out about a map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MapStatus {
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The sources, with id and name both known.
    #[serde(default, skip_serializing_if = "unset")]
    pub references: Vec<Ref>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl MapStatus {
    /// Whether the map knows this source.
    pub fn has_source(&self, reference: &Ref) -> bool {
        self.references.iter().any(|known| known.id == reference.id)
    }
}

impl NetworkMapSpec {
    /// Returns the pairs for a source's id: more than one is a pool.
    pub fn by_id<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a NetworkPair> {
        self.map.iter().filter(move |pair| pair.source.reference.id == id)
    }

    /// Returns the pairs for a source's type, e.g. the pod network of an OpenShift source.
    pub fn by_type<'a>(&'a self, type_: &'a str) -> impl Iterator<Item = &'a NetworkPair> {
        self.map.iter().filter(move |pair| pair.source.reference.type_ == type_)
    }

    /// Returns the pairs for a namespaced source, written as two fields or as `namespace/name`.
    pub fn by_namespaced_name<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a NetworkPair> {
        self.map.iter().filter(move |pair| {
            let source = &pair.source.reference;
            if source.namespace.is_empty() {
                source.name.split_once('/') == Some((namespace, name))
            } else {
                source.namespace == namespace && source.name == name
            }
        })
    }
}

impl StorageMapSpec {
    /// Returns the pair for a source's id.
    pub fn by_id(&self, id: &str) -> Option<&StoragePair> {
        self.map.iter().find(|pair| pair.source.id == id)
    }

    /// Returns the pair for a source's name.
    pub fn by_name(&self, name: &str) -> Option<&StoragePair> {
        self.map.iter().find(|pair| pair.source.name == name)
    }

    /// Whether any pair lets the array copy.
    pub fn uses_offload(&self) -> bool {
        self.map.iter().any(|pair| {
            pair.offload_plugin
                .as_ref()
                .is_some_and(|plugin| plugin.vsphere_xcopy_config.is_some() || plugin.csi_volume_import.is_some())
        })
    }
}
